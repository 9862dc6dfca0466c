//! A sound server of the test: what it says, and what the client makes of it.

use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use pulseaudio::protocol::{read_command_message, write_reply_message};

fn places(path: &std::path::Path) -> Places {
    Places { addresses: vec![Address::Unix(path.into())], named: true }
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
    });
    let why = failure(&places(&path));
    assert!(why.contains("does not speak as a sound server"), "{why}");
    server.join().unwrap();
}

#[test]
fn refusal_says_how_to_be_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("native");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = io::BufReader::new(stream.try_clone().unwrap());
        let (sequence, command) = read_command_message(&mut reader, MAX_VERSION).unwrap();
        let Command::Auth(auth) = command else { panic!("{command:?}") };
        assert_eq!(auth.cookie.len(), COOKIE_BYTES);
        let refused = Command::Error(PulseError::AccessDenied);
        write_command_message(&mut &stream, sequence, &refused, MAX_VERSION).unwrap();
    });
    let why = failure(&places(&path));
    assert!(why.contains("systemctl --user") && why.contains("PULSE_COOKIE"), "{why}");
    server.join().unwrap();
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
