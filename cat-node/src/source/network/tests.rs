//! Streams over HTTP from servers of the test.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use super::*;

const WAIT: Duration = Duration::from_millis(100);
const GENEROUS: Duration = Duration::from_secs(60);

/// What a server does with a connection.
type Answer = Box<dyn FnOnce(&mut TcpStream) + Send>;

/// A server that answers each connection with the next of these functions. It reports the heads of the requests.
fn serve<F>(answers: Vec<F>) -> (SocketAddr, Receiver<String>)
where
    F: FnOnce(&mut TcpStream) + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads_in, heads) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1, "the client asks for something");
                head.push(byte[0]);
            }
            let _ = heads_in.send(String::from_utf8(head).unwrap());
            answer(&mut stream);
        }
    });
    (address, heads)
}

fn stream_url(text: &str) -> StreamUrl {
    text.parse().unwrap()
}

fn failure(url: &str) -> SourceError {
    open(&stream_url(url)).err().expect("the source is refused")
}

/// Reads until there are this many samples.
fn read(source: &mut dyn Source, count: usize) -> Vec<f32> {
    let deadline = Instant::now() + GENEROUS;
    let mut samples = Vec::new();
    while samples.len() < count {
        assert!(Instant::now() < deadline, "only {} samples came", samples.len());
        source.read(&mut samples, WAIT).unwrap();
    }
    samples
}

/// Samples whose values tell their places.
fn ramp(count: i16) -> Vec<u8> {
    (0..count).flat_map(i16::to_le_bytes).collect()
}

fn is_ramp(samples: &[f32]) -> bool {
    samples.iter().zip(0_i16..).all(|(sample, place)| *sample == f32::from(place) / 32_768.0)
}

fn chunk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    write!(stream, "{:x}\r\n", bytes.len())?;
    stream.write_all(bytes)?;
    stream.write_all(b"\r\n")
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

#[test]
fn chunked_wav_without_an_end_is_heard_as_an_esp32_sends_it() {
    let (address, heads) = serve(vec![|stream: &mut TcpStream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: audio/wav\r\n\r\n").unwrap();
        let header = raw::RawFormat::of(&stream_url("http://x/?rate=16000&format=s16")).unwrap().unwrap().wav_header();
        for piece in [header, ramp(8000)].concat().chunks(333) {
            chunk(stream, piece).unwrap();
        }
        // The connection stays open until the client has gone.
        let _ = stream.read(&mut [0]);
    }]);
    let mut source = open(&stream_url(&format!("http://anna:pass@{address}/audio.wav?token=pass"))).unwrap();
    assert_eq!(source.format(), SourceFormat { sample_rate_hz: 16_000, channels: 1 });
    assert_eq!(source.device(), format!("http://{address}/audio.wav"));
    // The last piece may be incomplete.
    assert!(is_ramp(&read(source.as_mut(), 7000)));
    let head = heads.recv_timeout(GENEROUS).unwrap();
    // The password goes to a server that asks for it, and to no other.
    assert!(head.starts_with("GET /audio.wav?token=pass HTTP/1.1\r\n") && !head.contains("Authorization"), "{head}");
}

#[test]
fn raw_samples_are_read_in_the_format_that_the_url_names() {
    let (address, _) = serve(vec![|stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        stream.write_all(&ramp(4096)).unwrap();
    }]);
    let mut source = open(&stream_url(&format!("http://{address}/?rate=8000&format=s16&channels=2"))).unwrap();
    assert_eq!(source.format(), SourceFormat { sample_rate_hz: 8000, channels: 2 });
    assert!(is_ramp(&read(source.as_mut(), 4096)));
    // The server cut the connection.
    let mut samples = Vec::new();
    let error = loop {
        if let Err(error) = source.read(&mut samples, WAIT) {
            break error;
        }
    };
    assert!(matches!(&error, SourceError::Reopen(why) if why.contains("has ended the stream")), "{error}");
}

#[test]
fn format_that_is_not_read_as_a_stream_is_named() {
    let (address, _) = serve(vec![|stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        stream.write_all(b"\0\0\0\x20ftypM4A \0\0\x02\0").unwrap();
    }]);
    let error = failure(&format!("http://{address}/cat.m4a"));
    assert!(matches!(&error, SourceError::Refused(why) if why.contains("MP4 is not read as a stream")), "{error}");
}

/// A file of the tests of the reader, an Ogg Vorbis of 16 kHz, as a song of a radio station.
fn song() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../recordings/tests/formats/meow.ogg");
    std::fs::read(path).unwrap()
}

/// The samples of [`song`].
const SONG_SAMPLES: usize = 32_938;

#[test]
fn radio_that_begins_a_new_ogg_stream_with_each_song_is_heard_on() {
    let (address, _) = serve(vec![|stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        stream.write_all(&[song(), song()].concat()).unwrap();
        // The connection stays open until the client has gone.
        let _ = stream.read(&mut [0]);
    }]);
    let mut source = open(&stream_url(&format!("http://{address}/cat.ogg"))).unwrap();
    assert_eq!(source.format(), SourceFormat { sample_rate_hz: 16_000, channels: 1 });
    // The last packet of a song may wait for the next page.
    let samples = read(source.as_mut(), 2 * SONG_SAMPLES - 4_096);
    let (first, second) = samples.split_at(SONG_SAMPLES);
    assert!(first.iter().any(|sample| sample.abs() > 0.05), "silent");
    assert!(second == &first[..second.len()], "the second song differs");
}

/// A song that is cut off is odd, but not why the stream ended.
#[test]
fn stream_that_the_server_ends_within_a_song_is_said_to_be_ended_by_the_server() {
    let (address, _) = serve(vec![|stream: &mut TcpStream| {
        let song = song();
        stream.write_all(OK).unwrap();
        stream.write_all(&song[..song.len() / 2]).unwrap();
    }]);
    let mut source = open(&stream_url(&format!("http://{address}/cat.ogg"))).unwrap();
    let mut samples = Vec::new();
    let error = loop {
        if let Err(error) = source.read(&mut samples, WAIT) {
            break error;
        }
    };
    assert!(matches!(&error, SourceError::Reopen(why) if why.contains("has ended the stream")), "{error}");
}

#[test]
fn server_that_stalls_keeps_nobody_waiting_and_is_let_go() {
    let (gone_in, gone) = mpsc::channel();
    let (address, _) = serve(vec![move |stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        stream.write_all(&ramp(1024)).unwrap();
        gone_in.send(stream.read(&mut [0]).unwrap_or(0)).unwrap();
    }]);
    let mut source = open(&stream_url(&format!("http://{address}/?rate=16000&format=s16"))).unwrap();
    read(source.as_mut(), 1024);
    assert_eq!(source.read(&mut Vec::new(), WAIT).unwrap(), Read::Nothing);
    drop(source);
    assert_eq!(gone.recv_timeout(GENEROUS).unwrap(), 0, "the connection is closed");
}

#[test]
fn stock_of_sound_is_taken_at_the_speed_of_the_clock() {
    let (address, _) = serve(vec![|stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        // Ten minutes, until the client has gone.
        while stream.write_all(&[0; 32_000]).is_ok() {}
    }]);
    let mut source = open(&stream_url(&format!("http://{address}/?rate=16000&format=s16"))).unwrap();
    let started = Instant::now();
    let mut samples = Vec::new();
    while started.elapsed() < Duration::from_secs(1) {
        source.read(&mut samples, WAIT).unwrap();
    }
    let sound = Duration::from_secs_f64(samples.len() as f64 / 16_000.0);
    // A piece more than the lead, and the clock's excess.
    let excess = started.elapsed() * DRIFT_PPM as u32 / 1_000_000;
    assert!(sound <= started.elapsed() + excess + LEAD + Duration::from_millis(100), "{sound:?}");
}

#[test]
fn stock_of_a_source_that_is_too_fast_is_dropped_and_reported() {
    let (items, received) = sync_channel(100);
    let mut network = Network {
        items: received,
        stop: Arc::default(),
        login: Login::of(&stream_url("http://mic/")).unwrap(),
        format: SourceFormat { sample_rate_hz: 8000, channels: 2 },
        device: String::new(),
        piece: None,
        started: None,
        passed: 0,
        stock: Stock::new(Duration::ZERO, Duration::from_millis(300)),
        dropped: 0,
        failed: None,
    };
    let send = |pieces: u64| {
        for _ in 0..pieces {
            items.send(Item::Piece(Piece { samples: vec![0.5; 1600], lost: None })).unwrap();
        }
    };
    let mut samples = Vec::new();
    send(1);
    assert_eq!(network.read(&mut samples, WAIT).unwrap(), Read::Samples);
    // It was waited for, so it sends its sound as it is made.
    assert_eq!(network.read(&mut samples, WAIT).unwrap(), Read::Nothing);
    // Nine seconds at once, which would be a delay.
    send(90);
    let deadline = Instant::now() + GENEROUS;
    while network.dropped == 0 {
        assert!(Instant::now() < deadline, "nothing was dropped");
        network.read(&mut samples, WAIT).unwrap();
    }
    send(1);
    let lost = loop {
        assert!(Instant::now() < deadline, "nothing was reported");
        if let Read::Overrun { lost_samples } = network.read(&mut samples, WAIT).unwrap() {
            break lost_samples;
        }
    };
    assert_eq!(samples.len() as u64 / 2 + lost, 92 * 800);
    assert!(lost > 60 * 800, "{lost}");
    // What ended the stream is reported after a stock too.
    network.stock = Stock { live: true, since: Some(Instant::now()), ..Stock::new(Duration::ZERO, Duration::ZERO) };
    send(1);
    items.send(Item::Failed(SourceError::Reopen("cut".into()))).unwrap();
    let error = (0..10).find_map(|_| network.read(&mut samples, WAIT).err()).unwrap();
    assert_eq!(error.to_string(), "cut");
}

#[test]
fn redirect_is_followed_and_the_password_stays_behind() {
    let (other, heads) = serve(vec![|stream: &mut TcpStream| {
        let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
        stream.write_all(challenge.as_bytes()).unwrap();
    }]);
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://{other}/stream\r\n\r\n");
    let (address, _) = serve(vec![move |stream: &mut TcpStream| stream.write_all(to.as_bytes()).unwrap()]);
    let error = failure(&format!("http://anna:pass@{address}/"));
    assert!(matches!(&error, SourceError::Refused(why) if why.contains(&other.to_string())), "{error}");
    assert!(!error.to_string().contains("anna") && !error.to_string().contains("pass@"), "{error}");
    assert!(!heads.recv_timeout(GENEROUS).unwrap().contains("Authorization"));

    // A password in the address to which we are sent is used, and shown no more than ours.
    let again = |stream: &mut TcpStream| {
        let head = b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n";
        stream.write_all(head).unwrap();
    };
    let broken = |stream: &mut TcpStream| stream.write_all(b"HTTP/1.1 500 topsecret is bad\r\n\r\n").unwrap();
    let answers: Vec<Answer> = vec![Box::new(again), Box::new(broken)];
    let (other, heads) = serve(answers);
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://tom:topsecret@{other}/pwd=pa55/x#fragment\r\n\r\n");
    let (address, _) = serve(vec![move |stream: &mut TcpStream| stream.write_all(to.as_bytes()).unwrap()]);
    let error = failure(&format!("http://{address}/")).to_string();
    assert!(error.contains(&format!("http://{other}/pwd=***/x answers 500 *** is bad")), "{error}");
    heads.recv_timeout(GENEROUS).unwrap();
    // tom:topsecret
    assert!(heads.recv_timeout(GENEROUS).unwrap().contains("Authorization: Basic dG9tOnRvcHNlY3JldA==\r\n"));

    let circle = |stream: &mut TcpStream| stream.write_all(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n").unwrap();
    let (address, _) = serve(vec![circle; 5]);
    let error = failure(&format!("http://{address}/"));
    assert!(matches!(&error, SourceError::Refused(why) if why.contains("too often")), "{error}");
}

#[test]
fn password_is_given_to_who_asks_for_it_and_a_wrong_one_is_named_and_not_shown() {
    let challenge = |stream: &mut TcpStream| {
        let challenge = "HTTP/1.1 401 pass\r\nWWW-Authenticate: Basic realm=\"pass\"\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(challenge.as_bytes()).unwrap();
    };
    let ok = |stream: &mut TcpStream| {
        stream.write_all(OK).unwrap();
        stream.write_all(&ramp(1024)).unwrap();
        let _ = stream.read(&mut [0]);
    };
    let answers: Vec<Answer> = vec![Box::new(challenge), Box::new(ok)];
    let (address, heads) = serve(answers);
    let url = format!("http://anna:pa%3Ass@{address}/?rate=16000&format=s16");
    read(open(&stream_url(&url)).unwrap().as_mut(), 1024);
    heads.recv_timeout(GENEROUS).unwrap();
    // anna:pa:ss
    assert!(heads.recv_timeout(GENEROUS).unwrap().contains("Authorization: Basic YW5uYTpwYTpzcw==\r\n"));

    let (address, _) = serve(vec![challenge; 2]);
    let error = failure(&format!("http://anna:secret@{address}/"));
    assert!(matches!(&error, SourceError::Refused(why) if why.contains("the user or the password")), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");

    let status = |stream: &mut TcpStream| stream.write_all(b"HTTP/1.1 500 secret is bad\r\n\r\n").unwrap();
    let (address, _) = serve(vec![status]);
    let error = failure(&format!("http://anna:secret@{address}/"));
    assert!(matches!(&error, SourceError::Reopen(why) if why.ends_with("answers 500 *** is bad")), "{error}");
}

#[test]
fn what_is_no_sound_is_refused_with_what_to_do() {
    let page = |stream: &mut TcpStream| {
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\n\r\n<html><body>This is the page of the microphone, and no sound. </body></html>",
            )
            .unwrap();
    };
    let (address, _) = serve(vec![page]);
    let error = failure(&format!("http://{address}/"));
    assert!(matches!(&error, SourceError::Refused(why) if why.contains("?rate=16000&format=s16")), "{error}");

    let other_protocol = |stream: &mut TcpStream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    let (address, _) = serve(vec![other_protocol]);
    let error = failure(&format!("http://{address}/"));
    assert!(matches!(&error, SourceError::Reopen(why) if why.contains("does not speak HTTP")), "{error}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = failure(&format!("http://{nobody}/"));
    assert!(matches!(&error, SourceError::Reopen(why) if why.contains("connection refused")), "{error}");
}
