//! A sound server of the test: what it says, and what the client makes of it.

use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use pulseaudio::protocol::{RecordStreamMovedParams, read_command_message, write_reply_message};

fn places(path: &std::path::Path) -> Places {
    Places { addresses: vec![Address::Unix(path.into())], named: true, system: None }
}

fn failure(places: &Places) -> String {
    match Connection::open(places) {
        Err(NoAudio::Other(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn server_that_hangs_is_given_up_in_time_however_often_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    // It never accepts, as a stopped server. When its queue is full, connecting waits too.
    let _listener = UnixListener::bind(&path).unwrap();
    let socket = Socket(&path).fill();
    let started = Instant::now();
    let why = failure(&places(&path));
    assert!(why.contains("does not answer") && why.contains(path.to_str().unwrap()), "{why}");
    assert!(started.elapsed() < ANSWER_DEADLINE * 20, "it waits without a deadline");
    drop(socket);
}

/// Fills the queue of a listener that accepts nothing.
struct Socket<'a>(&'a std::path::Path);

impl Socket<'_> {
    fn fill(&self) -> Vec<std::os::unix::net::UnixStream> {
        let mut waiting = Vec::new();
        loop {
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            if socket.connect(&socket2::SockAddr::unix(self.0).unwrap()).is_err() {
                return waiting;
            }
            waiting.push(std::os::fd::OwnedFd::from(socket).into());
        }
    }
}

#[test]
fn nonsense_from_a_server_is_an_error_and_not_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // A message of four gigabytes.
        let _ = stream.write_all(&[0xff; 64]);
        // It stays until the client leaves: a client that still writes to a closed socket would read nothing.
        let _ = io::copy(&mut stream, &mut io::sink());
    });
    let why = failure(&places(&path));
    assert!(why.contains("does not speak as a sound server"), "{why}");
    server.join().unwrap();
}

#[test]
fn refusal_says_how_to_be_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let server = refuse(&path, PulseError::AccessDenied);
    let why = failure(&places(&path));
    assert!(why.contains("systemctl --user") && why.contains("PULSE_COOKIE"), "{why}");
    server.join().unwrap();
}

/// A server that lets one client not in.
fn refuse(path: &std::path::Path, why: PulseError) -> thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = io::BufReader::new(stream.try_clone().unwrap());
        let (sequence, command) = read_command_message(&mut reader, MAX_VERSION).unwrap();
        let Command::Auth(auth) = command else { panic!("{command:?}") };
        assert_eq!(auth.cookie.len(), COOKIE_BYTES);
        write_command_message(&mut &stream, sequence, &Command::Error(why), MAX_VERSION).unwrap();
    })
}

#[test]
fn server_of_the_system_that_nobody_named_and_that_shuts_us_out_is_not_ours() {
    for why in [PulseError::AccessDenied, PulseError::AuthKey] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("native");
        let system = Places { named: false, system: Some(Address::Unix(path.clone())), ..places(&path) };
        let server = refuse(&path, why);
        let refused = Connection::open(&system).unwrap_err();
        assert!(matches!(&refused, NoAudio::NotOurs(why) if why.contains("refuses this user")), "{refused:?}");
        server.join().unwrap();
        // The socket stays, and nobody accepts.
        let stale = Connection::open(&system).unwrap_err();
        assert!(matches!(&stale, NoAudio::NotOurs(why) if why.contains("connection refused")), "{stale:?}");
        // The server of a session comes back.
        let session = Places { system: None, ..system };
        assert!(matches!(Connection::open(&session), Err(NoAudio::Other(_))));
    }
}

#[test]
fn place_without_a_server_is_told_from_one_whose_server_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let usual = Places { named: false, ..places(&path) };
    assert_eq!(Connection::open(&usual).unwrap_err(), NoAudio::NoServer);
    assert!(failure(&places(&path)).contains("cannot be reached"));
    // A server that was killed leaves its socket.
    drop(UnixListener::bind(&path).unwrap());
    assert!(failure(&usual).contains("connection refused"));
}

/// A server with one source. It answers a client that opens a stream, then writes `after` to it, and returns the
/// parameters of the stream.
fn serve_source(path: &std::path::Path, source: SourceInfo, after: Option<Command>) -> Serving {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = io::BufReader::new(stream.try_clone().unwrap());
        let mut asked = None;
        // Until the client has gone.
        while let Ok((sequence, command)) = read_command_message(&mut reader, MAX_VERSION) {
            match command {
                Command::Auth(_) => {
                    let auth = AuthReply { version: MAX_VERSION, ..AuthReply::default() };
                    write_reply_message(&mut stream, sequence, &auth, MAX_VERSION).unwrap();
                }
                Command::SetClientName(_) => {
                    let reply = SetClientNameReply { client_id: 1 };
                    write_reply_message(&mut stream, sequence, &reply, MAX_VERSION).unwrap();
                }
                Command::CreateRecordStream(params) => {
                    asked = Some(params);
                    let reply = CreateRecordStreamReply {
                        channel: 7,
                        sample_spec: source.sample_spec,
                        channel_map: source.channel_map,
                        sink_name: Some(source.name.clone()),
                        ..CreateRecordStreamReply::default()
                    };
                    write_reply_message(&mut stream, sequence, &reply, MAX_VERSION).unwrap();
                    if let Some(command) = &after {
                        write_command_message(&mut stream, u32::MAX, command, MAX_VERSION).unwrap();
                    }
                }
                Command::GetSourceInfo(_) => {
                    write_reply_message(&mut stream, sequence, &source, MAX_VERSION).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        asked
    })
}

type Serving = thread::JoinHandle<Option<RecordStreamParams>>;

fn source(name: &CStr, rate_hz: u32) -> SourceInfo {
    SourceInfo {
        name: name.to_owned(),
        sample_spec: SampleSpec { format: SampleFormat::S16Le, channels: 1, sample_rate: rate_hz },
        channel_map: ChannelMap::mono(),
        ..SourceInfo::default()
    }
}

#[test]
fn monitor_is_a_microphone_only_if_it_is_named() {
    let monitor = || SourceInfo { monitor_of_sink_index: Some(0), ..source(c"room.monitor", 48_000) };
    for (name, source, opens) in
        [(None, monitor(), false), (Some("room.monitor"), monitor(), true), (None, source(c"mic", 48_000), true)]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("native");
        let server = serve_source(&path, source, None);
        let opened = open_at(&places(&path), name);
        assert!(opened.is_ok() == opens, "{name:?}: {opened:?}");
        assert!(opens || opened.as_ref().is_err_and(|why| *why == NoAudio::NoMicrophone), "{opened:?}");
        drop(opened);
        // Of a named one, the server must not make another one.
        assert_eq!(server.join().unwrap().unwrap().flags.no_move, name.is_some());
    }
}

#[test]
fn rate_that_no_device_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    // Its messages would have more bytes than a number of 32 bits counts.
    let hostile = SampleSpec { format: SampleFormat::S16Le, channels: 32, sample_rate: u32::MAX };
    let server = serve_source(&path, SourceInfo { sample_spec: hostile, ..source(c"mic", 48_000) }, None);
    let opened = open_at(&places(&path), Some("mic"));
    let Err(NoAudio::Other(why)) = opened else { panic!("{opened:?}") };
    assert!(why.contains("4294967295 Hz is not supported"), "{why}");
    server.join().unwrap();
}

#[test]
fn stream_that_the_server_moves_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let moved = Command::RecordStreamMoved(RecordStreamMovedParams {
        stream_index: 0,
        device_index: 1,
        device_name: c"other".into(),
        device_suspended: false,
        buffer_attr: BufferAttr::default(),
        configured_source_latency: 0,
    });
    let server = serve_source(&path, source(c"mic", 48_000), Some(moved));
    let mut pulse = open_at(&places(&path), Some("mic")).unwrap();
    let error = (0..100).find_map(|_| pulse.read(&mut Vec::new(), Duration::from_millis(100)).err());
    let error = error.expect("the move is noticed").to_string();
    assert!(error.contains("moved the recording to another device, other"), "{error}");
    drop(pulse);
    server.join().unwrap();
}

#[test]
fn samples_are_read_across_pieces_and_other_messages_are_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = io::BufReader::new(stream.try_clone().unwrap());
        let (sequence, _) = read_command_message(&mut reader, MAX_VERSION).unwrap();
        let auth = AuthReply { version: MAX_VERSION, ..AuthReply::default() };
        write_reply_message(&mut stream, sequence, &auth, MAX_VERSION).unwrap();
        let (sequence, _) = read_command_message(&mut reader, MAX_VERSION).unwrap();
        write_reply_message(&mut stream, sequence, &SetClientNameReply { client_id: 1 }, MAX_VERSION).unwrap();
        let message = |channel: u32, samples: &[i16]| {
            let content: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let length = (content.len() as u32).to_be_bytes();
            [&length[..], &channel.to_be_bytes(), &[0; 12], &content].concat()
        };
        let bytes = [message(7, &[i16::MIN, 0]), message(8, &[1, 2, 3]), message(7, &[16_384])].concat();
        for piece in bytes.chunks(5) {
            stream.write_all(piece).unwrap();
        }
        write_command_message(&mut stream, 9, &Command::RecordStreamKilled(7), MAX_VERSION).unwrap();
        // The socket stays open until the client has read everything.
        let _ = reader.read(&mut [0]);
    });
    let connection = Connection::open(&places(&path)).unwrap();
    let format = SourceFormat { sample_rate_hz: 48_000, channels: 1 };
    let mut pulse = Pulse { connection, channel: 7, format, device: PULSE.into(), wait: Duration::ZERO };
    let mut samples = Vec::new();
    let error = loop {
        match pulse.read(&mut samples, Duration::from_millis(100)) {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(samples, [-1.0, 0.0, 0.5]);
    assert!(error.contains("unplugged"), "{error}");
    drop(pulse);
    server.join().unwrap();
}
