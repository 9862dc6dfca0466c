//! A stream over HTTP or HTTPS: WAV, raw samples, MP3, Ogg Vorbis, FLAC or AAC, as ESP32 microphones and Icecast send.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;

use daemon::cause::cause;
use http_auth::{PasswordClient, PasswordParams};
use recordings::{Input, RecordingError, Stream};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use url::Url;

use super::login::Login;
use super::raw::RawFormat;
use super::{Feed, STEP_DEADLINE, Stop};
use crate::source::interface::{SourceError, SourceFormat};
use crate::source::stream_url::{StreamUrl, mask_path};

/// How often a server may send us to another address.
const MOST_REDIRECTS: usize = 5;

/// Bytes of the head of an answer, at most.
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// Samples that are handed over at a time, at most: a tenth of a second of them fits on every rate.
const MOST_PIECE_SAMPLES: usize = 4096;

/// Connects, and hands the sound over until the stream ends. Returns why it ended.
pub(super) fn run(url: &StreamUrl, login: &Login, feed: &Feed) -> SourceError {
    match stream(url, login, feed) {
        Ok(()) => SourceError::Reopen(format!("{} has ended the stream", url.place())),
        Err(error) => error,
    }
}

fn stream(url: &StreamUrl, login: &Login, feed: &Feed) -> Result<(), SourceError> {
    let raw = RawFormat::of(url).map_err(SourceError::Fatal)?;
    let body = open(login, &feed.stop)?;
    let input = match raw {
        Some(raw) => Input::stream(io::Cursor::new(raw.wav_header()).chain(body)),
        None => Input::stream(body),
    };
    let unreadable = |error: RecordingError| match error {
        RecordingError::Io(error) => SourceError::Reopen(format!("{}: {}", url.place(), words(&error))),
        error @ (RecordingError::Empty | RecordingError::Damaged(_)) => {
            SourceError::Reopen(format!("{}: {error}", url.place()))
        }
        error => SourceError::Refused(format!(
            "{} sends no sound that can be read: {error}; for raw samples add ?rate=16000&format=s16",
            url.place()
        )),
    };
    let mut sound = Stream::read_from(input).map_err(unreadable)?;
    let format = sound.format();
    let channels = usize::from(format.channels);
    if !feed.opened(SourceFormat { sample_rate_hz: format.sample_rate_hz, channels: format.channels }) {
        return Ok(());
    }
    let mut samples = Vec::new();
    loop {
        samples.clear();
        if sound.read(&mut samples).map_err(unreadable)? == 0 {
            // A radio station may change the rate with the song. The stream is opened again in the new format. Other
            // warnings do not say why it ended.
            return match sound.stopped() {
                Some(why) => Err(SourceError::Reopen(format!("{}: the stream ended: {why}", url.place()))),
                None => Ok(()),
            };
        }
        for piece in samples.chunks(MOST_PIECE_SAMPLES / channels * channels) {
            if !feed.piece(piece.to_vec(), None) {
                return Ok(());
            }
        }
    }
}

/// The words for a connection that fails.
fn words(error: &io::Error) -> String {
    match error.kind() {
        // What a socket says when its deadline has passed.
        io::ErrorKind::WouldBlock => "it sends nothing".into(),
        _ => cause(error),
    }
}

/// Asks for the stream, and follows redirects.
fn open(login: &Login, stop: &Stop) -> Result<Body, SourceError> {
    let mut login = login.clone();
    let mut answer_to_challenge = None;
    for _ in 0..MOST_REDIRECTS {
        let (head, body) = ask(&login, answer_to_challenge.as_deref(), stop).map_err(|error| {
            SourceError::Reopen(format!("{} cannot be reached: {}", shown(&login.url), words(&error)))
        })?;
        match head.status {
            200 => return Ok(body),
            301 | 302 | 303 | 307 | 308 => {
                let to = head.field("location").and_then(|to| login.url.join(to).ok());
                let to = to.filter(|to| ["http", "https"].contains(&to.scheme()) && to.has_host());
                let to = to.and_then(|to| login.moved(to));
                login = to.ok_or_else(|| {
                    SourceError::Refused(format!("{} sends the node to a URL that it cannot use", shown(&login.url)))
                })?;
                answer_to_challenge = None;
            }
            401 if answer_to_challenge.is_none() => {
                answer_to_challenge = Some(prove(&login, &head)?);
            }
            401 | 403 => return Err(SourceError::Refused(wrong_password(&shown(&login.url)))),
            status => {
                // A server that we were sent to may repeat the password that was in the address.
                let why = format!("{} answers {status} {}", shown(&login.url), login.hide(&head.reason));
                return Err(SourceError::Reopen(why));
            }
        }
    }
    Err(SourceError::Refused(format!("{} sends us on too often", shown(&login.url))))
}

/// The words for a user or a password that a server does not accept.
pub(super) fn wrong_password(place: &str) -> String {
    format!("{place} refuses the user or the password; correct them in source, as in rtsp://USER:PASSWORD@HOST/PATH")
}

/// The answer to a server that asks who we are, in one of the ways that it offers.
fn prove(login: &Login, head: &Head) -> Result<String, SourceError> {
    let refused = || SourceError::Refused(wrong_password(&shown(&login.url)));
    let (username, password) = login.user.as_ref().ok_or_else(refused)?;
    let offers = head.fields("www-authenticate");
    let client = offers.fold(PasswordClient::builder(), |client, offer| client.challenges(offer)).build();
    let mut client = client.map_err(|_| refused())?;
    let uri = target(&login.url);
    client
        .respond(&PasswordParams { username, password, uri: &uri, method: "GET", body: Some(&[]) })
        .map_err(|_| refused())
}

/// A URL without query, fragment and the secrets of its path, for people.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    mask_path(url.as_str()).into_owned()
}

/// Path and query.
fn target(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// Sends a request and reads the head of the answer.
fn ask(login: &Login, authorization: Option<&str>, stop: &Stop) -> io::Result<(Head, Body)> {
    let url = &login.url;
    let mut link = connect(url, stop)?;
    let host = match (url.host_str().unwrap_or_default(), url.port()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: cat-node/{}\r\nAccept: */*\r\nConnection: close\r\n",
        target(url),
        env!("CARGO_PKG_VERSION"),
    );
    if let Some(authorization) = authorization {
        request.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    request.push_str("\r\n");
    link.write_all(request.as_bytes())?;
    link.flush()?;
    let mut reader = BufReader::new(link);
    let head = Head::read(&mut reader)?;
    let framing =
        if head.field("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked")) {
            Framing::Chunked { left: 0, first: true }
        } else {
            Framing::Plain(head.field("content-length").and_then(|length| length.trim().parse().ok()))
        };
    Ok((head, Body { reader, framing }))
}

fn connect(url: &Url, stop: &Stop) -> io::Result<Link> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    let name = host.trim_start_matches('[').trim_end_matches(']');
    for address in (name, port).to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&address, STEP_DEADLINE) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(STEP_DEADLINE))?;
        stream.set_write_timeout(Some(STEP_DEADLINE))?;
        if !stop.watch(&stream) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if url.scheme() != "https" {
            return Ok(Link::Plain(stream));
        }
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the name of the host is not valid"))?;
        let client = ClientConnection::new(tls()?, server).map_err(io::Error::other)?;
        return Ok(Link::Tls(Box::new(StreamOwned::new(client, stream))));
    }
    Err(last)
}

/// Trusts the authorities that this machine trusts.
fn tls() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Link {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(out),
            Self::Tls(stream) => stream.read(out),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The head of an answer.
#[derive(Debug)]
struct Head {
    status: u16,
    reason: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(reader: &mut impl BufRead) -> io::Result<Self> {
        let mut reader = reader.take(MAX_HEAD_BYTES);
        let first = line(&mut reader)?;
        let mut words = first.splitn(3, ' ');
        let protocol = words.next().unwrap_or_default();
        // Old radios answer "ICY 200 OK".
        let status = words.next().and_then(|status| status.parse().ok());
        let Some(status) = status.filter(|_| protocol.starts_with("HTTP/1.") || protocol == "ICY") else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server does not speak HTTP"));
        };
        let reason = words.next().unwrap_or_default().chars().filter(|letter| !letter.is_control()).take(100).collect();
        let mut fields = Vec::new();
        loop {
            let line = line(&mut reader)?;
            if line.is_empty() {
                return Ok(Self { status, reason, fields });
            }
            if let Some((name, value)) = line.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).next()
    }

    /// The values of each line with this name.
    fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A line without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// How the end of the body is told.
enum Framing {
    /// This many bytes are left. `None`: to the end of the connection.
    Plain(Option<u64>),
    /// In chunks, of which this many bytes are left.
    Chunked { left: u64, first: bool },
}

/// The body of an answer.
struct Body {
    reader: BufReader<Link>,
    framing: Framing,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = match &mut self.framing {
            Framing::Plain(None) => out.len() as u64,
            Framing::Plain(Some(left)) => *left,
            Framing::Chunked { left, first } => {
                if *left == 0 {
                    *left = next_chunk(&mut self.reader, std::mem::take(first))?;
                    if *left == 0 {
                        self.framing = Framing::Plain(Some(0));
                        return Ok(0);
                    }
                }
                *left
            }
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(out.len());
        let count = self.reader.read(&mut out[..most])?;
        match &mut self.framing {
            Framing::Plain(Some(left)) | Framing::Chunked { left, .. } => *left -= count as u64,
            Framing::Plain(None) => {}
        }
        Ok(count)
    }
}

/// The size of the next chunk. 0: the last one.
fn next_chunk(reader: &mut impl BufRead, first: bool) -> io::Result<u64> {
    let mut reader = reader.take(MAX_HEAD_BYTES);
    if !first {
        line(&mut reader)?;
    }
    let size = line(&mut reader)?;
    let size = size.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(size, 16).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk has no size"))
}
