//! A sound server as the microphone: PulseAudio, or PipeWire, which speaks the same protocol.
//!
//! The capture thread reads the server's socket itself, so a stream has no thread and no ring of its own, and closing
//! it cannot hang. The messages are those of the crate `pulseaudio`. Its client (which cpal's `pulseaudio` host uses)
//! is not: its handshake has no deadline, a thread and a socket stay behind for every server that hangs, and it clears
//! a megabyte of memory for every piece of audio.
//!
//! Samples are asked for at the rate and with the channels of the device, so that the server converts nothing.

mod server;

use std::ffi::{CStr, CString};
use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use daemon::cause::cause;
use pulseaudio::protocol::stream::{BufferAttr, StreamFlags};
use pulseaudio::protocol::{
    AuthParams, AuthReply, ChannelMap, Command, CommandReply, CreateRecordStreamReply, DESCRIPTOR_SIZE, GetSourceInfo,
    MAX_VERSION, Prop, Props, ProtocolError, PulseError, RecordStreamParams, SampleFormat, SampleSpec, ServerInfo,
    SetClientNameReply, SetRecordStreamBufferAttrParams, SetRecordStreamBufferAttrReply, SourceInfo, read_descriptor,
    read_reply_message, write_command_message,
};
use sound::framer::{FramerError, SOURCE_RATES_HZ};

use crate::source::interface::{Read, Source, SourceFormat};
use server::{ANSWER_DEADLINE, Address, Link, Places};

/// The id of the sound server's default microphone. `pulse:NAME` is one of its other sources.
pub(super) const PULSE: &str = "pulse";

/// Length of the cookie that clients of other users show. A client without one sends zeros.
const COOKIE_BYTES: usize = 256;

/// Bytes of audio in one message: a frame of 20 ms, of samples of 16 bits.
fn fragment_bytes(rate_hz: u32, channels: u8) -> u32 {
    rate_hz / 50 * u32::from(channels) * 2
}

/// Bytes that the server keeps for a node that does not read, two seconds of 48 kHz in stereo. It drops what does not
/// fit, and the clock tells how much that was.
const SERVER_BUFFER_BYTES: u32 = 2 * 48_000 * 2 * 2;

/// Longest message that is accepted, in bytes. A list of a hundred devices has some tens of thousands.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// Bytes read at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// The monitor of the sink that a server makes if it has no device at all.
const NO_DEVICE: &CStr = c"auto_null.monitor";

/// Why a sound server gives no audio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAudio {
    /// No server is where one should be, and nobody named one.
    NoServer,
    /// The one of the whole system, which nobody named, does not let this user in, or has left only its socket. In
    /// words for the user.
    NotOurs(String),
    /// It answers, but has no microphone.
    NoMicrophone,
    /// Anything else, in words for the user.
    Other(String),
}

/// Opens a source of the sound server. `None`: its default.
///
/// # Errors
/// See [`NoAudio`].
pub(super) fn open(name: Option<&str>) -> Result<Pulse, NoAudio> {
    open_at(&Places::by_environment(), name)
}

fn open_at(places: &Places, name: Option<&str>) -> Result<Pulse, NoAudio> {
    let mut connection = Connection::open(places)?;
    let source_name = name
        .map(CString::new)
        .transpose()
        .map_err(|_| NoAudio::Other("the name of a microphone has no zero bytes".into()))?;
    // A guess: by the flags below, the server answers with the rate and the channels of the device.
    let guess = SampleSpec { format: SampleFormat::S16Le, channels: 1, sample_rate: 48_000 };
    let flags = StreamFlags {
        fix_rate: true,
        fix_channels: true,
        adjust_latency: true,
        // The server must not replace a named microphone that was unplugged by another device.
        no_move: name.is_some(),
        ..StreamFlags::default()
    };
    let params = RecordStreamParams {
        sample_spec: guess,
        channel_map: ChannelMap::mono(),
        source_name,
        buffer_attr: buffer(guess),
        flags,
        props: properties(c"cat-node"),
        ..RecordStreamParams::default()
    };
    let stream = match connection.ask::<CreateRecordStreamReply>(&Command::CreateRecordStream(params)) {
        Ok(stream) => stream,
        Err(Failure::Server(PulseError::NoEntity)) if name.is_none() => return Err(NoAudio::NoMicrophone),
        Err(Failure::Server(PulseError::NoEntity)) => return Err(NoAudio::Other(connection.not_found(name))),
        Err(failure) => return Err(NoAudio::Other(connection.explain(&failure))),
    };
    if let (None, Some(device)) = (name, &stream.sink_name)
        && connection.is_monitor(device).map_err(|failure| NoAudio::Other(connection.explain(&failure)))?
    {
        return Err(NoAudio::NoMicrophone);
    }
    let SampleSpec { format, channels, sample_rate } = stream.sample_spec;
    if format != SampleFormat::S16Le || channels == 0 {
        return Err(NoAudio::Other(format!("the sound server {} gives no samples of 16 bits", connection.address)));
    }
    if !SOURCE_RATES_HZ.contains(&sample_rate) {
        let why = FramerError::Rate(sample_rate);
        return Err(NoAudio::Other(format!("the sound server {}: {why}", connection.address)));
    }
    if fragment_bytes(sample_rate, channels) != fragment_bytes(guess.sample_rate, guess.channels) {
        let params = SetRecordStreamBufferAttrParams {
            index: stream.channel,
            buffer_attr: buffer(stream.sample_spec),
            adjust_latency: true,
            early_requests: false,
        };
        // A server that refuses sends messages of another length, which costs a little and does no harm.
        let _: Result<SetRecordStreamBufferAttrReply, Failure> =
            connection.ask(&Command::SetRecordStreamBufferAttr(params));
    }
    let device = stream.sink_name.map_or_else(|| PULSE.to_owned(), |name| id_of(&name));
    let format = SourceFormat { sample_rate_hz: sample_rate, channels: u16::from(channels) };
    Ok(Pulse { connection, channel: stream.channel, format, device, wait: Duration::ZERO })
}

fn buffer(spec: SampleSpec) -> BufferAttr {
    let fragment_size = fragment_bytes(spec.sample_rate, spec.channels);
    BufferAttr { max_length: SERVER_BUFFER_BYTES.max(fragment_size), fragment_size, ..BufferAttr::default() }
}

/// A source of the sound server.
pub(super) struct Listed {
    /// The id to write after `microphone:`.
    pub(super) id: String,
    /// A description for people.
    pub(super) description: String,
    /// Whether a node without a name records from it: the default of the server, unless that is a monitor.
    pub(super) is_default: bool,
    /// Its rate and channels.
    pub(super) format: SourceFormat,
}

/// The sources of the sound server.
///
/// # Errors
/// See [`NoAudio`].
pub(super) fn list() -> Result<Vec<Listed>, NoAudio> {
    let mut connection = Connection::open(&Places::by_environment())?;
    let sources = connection.sources().map_err(|failure| NoAudio::Other(connection.explain(&failure)))?;
    let info: ServerInfo =
        connection.ask(&Command::GetServerInfo).map_err(|failure| NoAudio::Other(connection.explain(&failure)))?;
    let listed = sources.into_iter().filter(|source| source.name.as_c_str() != NO_DEVICE).map(|source| Listed {
        id: id_of(&source.name),
        is_default: info.default_source_name.as_ref() == Some(&source.name) && !is_monitor(&source),
        description: source.description.unwrap_or(source.name).to_string_lossy().into_owned(),
        format: SourceFormat {
            sample_rate_hz: source.sample_spec.sample_rate,
            channels: u16::from(source.sample_spec.channels),
        },
    });
    Ok(listed.collect())
}

fn id_of(name: &CStr) -> String {
    format!("{PULSE}:{}", name.to_string_lossy())
}

/// An open source of the sound server. Closed when dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    connection: Connection,
    /// The stream's number in messages.
    channel: u32,
    format: SourceFormat,
    device: String,
    /// The wait that the socket was last told.
    wait: Duration,
}

impl Pulse {
    /// Appends the samples of the messages that have arrived. Returns whether there were any.
    fn take_samples(&mut self, samples: &mut Vec<f32>) -> Result<bool, String> {
        let before = samples.len();
        while let Some(message) = self.connection.message().map_err(|failure| self.connection.explain(&failure))? {
            if message.channel == self.channel {
                let pairs = message.content.chunks_exact(2);
                samples.extend(pairs.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0));
                continue;
            }
            match Command::read_tag_prefixed(&mut &message.content[..], self.connection.version) {
                Ok((_, Command::RecordStreamKilled(_))) => {
                    return Err("the microphone was unplugged, or the sound server closed it".into());
                }
                // Opened again, the stream has the format and the name of the other device.
                Ok((_, Command::RecordStreamMoved(moved))) => {
                    let to = moved.device_name.to_string_lossy();
                    return Err(format!("the sound server has moved the recording to another device, {to}"));
                }
                _ => {}
            }
        }
        Ok(samples.len() > before)
    }
}

impl Source for Pulse {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, crate::source::SourceError> {
        let reopen = crate::source::SourceError::Reopen;
        if self.take_samples(samples).map_err(reopen)? {
            return Ok(Read::Samples);
        }
        // A socket takes no wait of zero.
        let wait = max_wait.max(Duration::from_millis(1));
        if self.wait != wait {
            self.connection.link.set_read_wait(wait).map_err(|error| reopen(cause(&error)))?;
            self.wait = wait;
        }
        let deadline = Instant::now() + wait;
        loop {
            match self.connection.receive() {
                Ok(()) => {}
                Err(Failure::Timeout) => return Ok(Read::Nothing),
                Err(failure) => return Err(reopen(self.connection.explain(&failure))),
            }
            if self.take_samples(samples).map_err(reopen)? {
                return Ok(Read::Samples);
            }
            if Instant::now() >= deadline {
                return Ok(Read::Nothing);
            }
        }
    }
}

/// How a request can fail.
#[derive(Debug)]
enum Failure {
    /// The server did not answer in time.
    Timeout,
    /// The connection broke.
    Io(io::Error),
    /// The server refused.
    Server(PulseError),
    /// The server sent what no sound server sends.
    Protocol(String),
}

impl Failure {
    /// Whether nobody is there, or not for this user.
    fn shuts_us_out(&self) -> bool {
        match self {
            Self::Io(error) => {
                [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied].contains(&error.kind())
            }
            Self::Server(error) => [PulseError::AccessDenied, PulseError::AuthKey].contains(error),
            Self::Timeout | Self::Protocol(_) => false,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Io(error),
        }
    }
}

/// One whole message.
struct Message {
    /// The stream that it belongs to. `u32::MAX`: it is a command or an answer.
    channel: u32,
    /// Its bytes, without the head.
    content: Vec<u8>,
}

/// A connection to a sound server that let us in.
#[derive(Debug)]
struct Connection {
    link: Link,
    address: Address,
    /// Version of the protocol.
    version: u16,
    /// Number of the last request.
    sequence: u32,
    /// Bytes that were received and are no whole message yet.
    received: Vec<u8>,
    piece: Vec<u8>,
}

impl Connection {
    /// Connects to the first server that answers, and logs in.
    fn open(places: &Places) -> Result<Self, NoAudio> {
        let mut why = None;
        for address in &places.addresses {
            match address.connect().map_err(Failure::from).and_then(|link| Self::log_in(link, address)) {
                Ok(connection) => return Ok(connection),
                Err(_) if !places.expects(address) => {}
                // The words for the first of several places, which is the nearest one.
                Err(failure) if why.is_none() => {
                    let words = explain(address, &failure);
                    let not_ours = places.system.as_ref() == Some(address) && failure.shuts_us_out();
                    why = Some(if not_ours { NoAudio::NotOurs(words) } else { NoAudio::Other(words) });
                }
                Err(_) => {}
            }
        }
        match why {
            Some(why) => Err(why),
            None if places.named => Err(NoAudio::Other(
                "PULSE_SERVER is not an address of a sound server; give unix:PATH or tcp:HOST".into(),
            )),
            None => Err(NoAudio::NoServer),
        }
    }

    fn log_in(link: Link, address: &Address) -> Result<Self, Failure> {
        let mut connection = Self {
            link,
            address: address.clone(),
            version: MAX_VERSION,
            sequence: 0,
            received: Vec::new(),
            piece: vec![0; PIECE_BYTES],
        };
        let auth = AuthParams { version: MAX_VERSION, supports_shm: false, supports_memfd: false, cookie: cookie() };
        let reply: AuthReply = connection.ask(&Command::Auth(auth))?;
        connection.version = reply.version.min(MAX_VERSION);
        let named: Result<SetClientNameReply, Failure> =
            connection.ask(&Command::SetClientName(properties(c"cat-node")));
        named.map(|_| connection)
    }

    /// Whether the source with this name is a monitor.
    fn is_monitor(&mut self, source: &CStr) -> Result<bool, Failure> {
        let asked = GetSourceInfo { index: None, name: Some(source.to_owned()) };
        match self.ask::<SourceInfo>(&Command::GetSourceInfo(asked)) {
            Ok(info) => Ok(is_monitor(&info)),
            // A server that says nothing about a source that it records from.
            Err(Failure::Server(_)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn sources(&mut self) -> Result<Vec<SourceInfo>, Failure> {
        self.ask(&Command::GetSourceInfoList)
    }

    /// The words for a name that the server does not know.
    fn not_found(&mut self, name: Option<&str>) -> String {
        let there = self.sources().unwrap_or_default();
        let there: Vec<String> = there.iter().map(|source| id_of(&source.name)).collect();
        let name = name.unwrap_or_default();
        format!("the sound server has no source \"{name}\"; it has: {}", there.join(", "))
    }

    fn explain(&self, failure: &Failure) -> String {
        explain(&self.address, failure)
    }

    /// Sends a request and waits for its answer. Other messages that come before it are dropped.
    fn ask<R: CommandReply>(&mut self, command: &Command) -> Result<R, Failure> {
        self.sequence += 1;
        let mut request = Vec::new();
        write_command_message(&mut request, self.sequence, command, self.version).map_err(protocol)?;
        self.link.write_all(&request)?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        loop {
            while let Some(message) = self.message()? {
                if message.channel != u32::MAX {
                    continue;
                }
                match read_answer::<R>(&message, self.version) {
                    Ok((sequence, answer)) if sequence == self.sequence => return Ok(answer),
                    Ok(_) | Err(ProtocolError::UnexpectedCommand(_)) => {}
                    Err(error) => return Err(protocol(error)),
                }
            }
            if Instant::now() >= deadline {
                return Err(Failure::Timeout);
            }
            self.receive()?;
        }
    }

    /// Receives some bytes.
    fn receive(&mut self) -> Result<(), Failure> {
        match self.link.read(&mut self.piece) {
            Ok(0) => Err(Failure::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.received.extend_from_slice(&self.piece[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole message among the received bytes.
    fn message(&mut self) -> Result<Option<Message>, Failure> {
        let Some(mut head) = self.received.get(..DESCRIPTOR_SIZE) else { return Ok(None) };
        let head = read_descriptor(&mut head).map_err(protocol)?;
        let length = head.length as usize;
        if length > MAX_MESSAGE_BYTES {
            return Err(Failure::Protocol(format!("a message of {length} bytes")));
        }
        if self.received.len() < DESCRIPTOR_SIZE + length {
            return Ok(None);
        }
        let content = self.received[DESCRIPTOR_SIZE..DESCRIPTOR_SIZE + length].to_vec();
        self.received.drain(..DESCRIPTOR_SIZE + length);
        Ok(Some(Message { channel: head.channel, content }))
    }
}

/// Whether a source is the monitor of a sink: what this machine plays, and no microphone. It is the default of a server
/// without a microphone.
fn is_monitor(source: &SourceInfo) -> bool {
    source.monitor_of_sink_index.is_some()
}

/// Reads an answer, whose head the crate reads again.
fn read_answer<R: CommandReply>(message: &Message, version: u16) -> Result<(u32, R), ProtocolError> {
    let head = [&(message.content.len() as u32).to_be_bytes()[..], &[0; DESCRIPTOR_SIZE - 4]].concat();
    read_reply_message(&mut io::Read::chain(&head[..], &message.content[..]), version)
}

fn protocol(error: ProtocolError) -> Failure {
    match error {
        ProtocolError::ServerError(error) => Failure::Server(error),
        ProtocolError::Io(error) => Failure::Protocol(cause(&error)),
        other => Failure::Protocol(other.to_string()),
    }
}

/// Turns a failure into a sentence that says what to do.
fn explain(address: &Address, failure: &Failure) -> String {
    match failure {
        Failure::Timeout => format!("the sound server {address} does not answer; restart it"),
        Failure::Io(error) => {
            format!(
                "the sound server {address} cannot be reached: {}; start it, or set source to a card that `cat-node \
                 devices` and `arecord -l` list; the user that runs cat-node must be in the group audio for a card, \
                 and own the session of the sound server",
                cause(error)
            )
        }
        Failure::Server(PulseError::AccessDenied | PulseError::AuthKey) => format!(
            "the sound server {address} refuses this user; run cat-node as the user of its session (systemctl --user), \
             or give it the server's cookie by PULSE_COOKIE"
        ),
        Failure::Server(error) => format!("the sound server {address} refuses: {error}"),
        Failure::Protocol(error) => format!("{address} does not speak as a sound server: {error}"),
    }
}

/// The properties of a client or a stream.
fn properties(name: &CStr) -> Props {
    let mut properties = Props::new();
    properties.set(Prop::ApplicationName, name);
    properties.set(Prop::MediaName, name);
    properties
}

/// The cookie that lets in users other than the server's: the file `PULSE_COOKIE`, or else one of the home folder.
fn cookie() -> Vec<u8> {
    let named = std::env::var_os("PULSE_COOKIE").map(std::path::PathBuf::from);
    let home = std::env::home_dir();
    let files = home.into_iter().flat_map(|home| [home.join(".config/pulse/cookie"), home.join(".pulse-cookie")]);
    let mut files = named.into_iter().chain(files);
    let cookie = files.find_map(|file| std::fs::read(file).ok().filter(|cookie| cookie.len() == COOKIE_BYTES));
    cookie.unwrap_or_else(|| vec![0; COOKIE_BYTES])
}

#[cfg(test)]
mod tests;
