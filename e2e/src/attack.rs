//! Clients that mean harm. They speak HTTP/2 frame by frame, because no library would send what they send.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames of HTTP/2.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

/// Flag of a HEADERS frame: no more headers follow.
const END_HEADERS: u8 = 4;

/// Code of a reset: the client no longer wants the answer.
const CANCEL: u32 = 8;

/// How long one connection of [`rapid_resets`] lasts at most.
const RESETS_TIME: Duration = Duration::from_secs(2);

/// Bytes of a message that are sent, of those that its length announces.
const SENT_BYTES: usize = 50;

/// Half-sent calls that are under way. The connections close when this is dropped.
#[derive(Debug)]
pub struct HalfSent {
    _connections: JoinSet<io::Result<u64>>,
    /// Bytes that were sent.
    pub bytes: usize,
}

/// Opens connections to a gRPC port and begins calls on each: the headers, the announced length of a message, and its
/// first bytes. The rest never comes. Connections that the server ends are not opened again.
pub async fn half_sent(server: SocketAddr, path: &str, connections: usize, calls: usize, length: u32) -> HalfSent {
    let mut sent = PREFACE.to_vec();
    frame(&mut sent, SETTINGS, 0, 0, &[]);
    let block = header_block(path);
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.resize(message.len() + SENT_BYTES, 0);
    for call in 0..calls {
        let stream = u32::try_from(2 * call + 1).expect("few calls");
        frame(&mut sent, HEADERS, END_HEADERS, stream, &block);
        frame(&mut sent, DATA, 0, stream, &message);
    }
    let mut open = JoinSet::new();
    for _ in 0..connections {
        let sent = sent.clone();
        open.spawn(async move {
            let (mut from, mut to) = TcpStream::connect(server).await?.into_split();
            let writer = tokio::spawn(async move {
                // An error means that the server has had enough.
                let _ = to.write_all(&sent).await;
                to
            });
            let read = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
            drop(writer.await);
            read
        });
        tokio::task::yield_now().await;
    }
    HalfSent { _connections: open, bytes: sent.len() * connections }
}

/// Calls and resets the call at once, on connections that are opened again whenever the server ends them, for as
/// long as `running` is true. Returns the number of calls.
///
/// `calls` is the number of calls in a row on a connection, at most 2^30.
pub async fn rapid_resets(server: SocketAddr, path: &str, calls: usize, running: &AtomicBool) -> usize {
    let mut sent = PREFACE.to_vec();
    frame(&mut sent, SETTINGS, 0, 0, &[]);
    let block = header_block(path);
    for call in 0..calls {
        let stream = u32::try_from(2 * call + 1).expect("few calls");
        frame(&mut sent, HEADERS, END_HEADERS, stream, &block);
        frame(&mut sent, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }
    let mut made = 0;
    while running.load(Ordering::Relaxed) {
        let attempt = async {
            let mut stream = TcpStream::connect(server).await?;
            stream.write_all(&sent).await?;
            // What the server says is read until it ends the connection, or says nothing more.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        // An error, or the time, means that the server has had enough.
        let _ = tokio::time::timeout(RESETS_TIME, attempt).await;
        made += calls;
    }
    made
}

/// Asks for `path` on each of these connections by HTTP/1.1, and never reads the answer. The connections close when
/// they are dropped.
///
/// # Errors
/// If the system or the server refuses a connection.
pub async fn slow_readers(server: SocketAddr, path: &str, connections: usize) -> io::Result<Vec<TcpStream>> {
    idle(
        server,
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        connections,
        &format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n"),
    )
    .await
}

/// Opens connections that send `text` and then nothing, from an address of this machine.
///
/// # Errors
/// If the system or the server refuses a connection.
pub async fn idle(server: SocketAddr, from: IpAddr, connections: usize, text: &str) -> io::Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        let mut stream = socket.connect(server).await?;
        // An error means that the server has closed the connection already.
        let _ = stream.write_all(text.as_bytes()).await;
        open.push(stream);
    }
    Ok(open)
}

/// Whether the server has closed the connection.
pub async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.read(&mut byte).await, Ok(0) | Err(_))
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame");
    out.extend(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// The headers of a gRPC call, in HPACK without its dynamic table.
fn header_block(path: &str) -> Vec<u8> {
    // Indexed: `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    let mut text = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(u8::try_from(value.len()).expect("a short value"));
        block.extend(value.as_bytes());
    };
    text(&[0x04], path);
    text(&[0x01], "localhost");
    // `content-type` is name 31 of the static table.
    text(&[0x0f, 0x10], "application/grpc");
    text(b"\0\x02te", "trailers");
    block
}
