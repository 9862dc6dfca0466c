//! Against brokers that speak TLS: the rest is tested with a real Mosquitto, in the crate `hub`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::testing::{Household, client_trusting};

/// What any wait may take before it counts as a failure.
const SOON: Duration = Duration::from_secs(60);

/// A broker at localhost that accepts clients by TLS. It sends the first bytes of each client, or the reason why TLS
/// failed.
async fn broker(household: &Household) -> (u16, mpsc::Receiver<Result<Vec<u8>, String>>) {
    let acceptor = TlsAcceptor::from(Arc::new(household.server()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, clients) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let greeted = match acceptor.accept(stream).await {
                Ok(mut stream) => {
                    let mut connect = vec![0; 256];
                    let length = stream.read(&mut connect).await.unwrap();
                    connect.truncate(length);
                    stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
                    // Stays open until the client leaves.
                    tokio::spawn(async move { while matches!(stream.read(&mut [0; 256]).await, Ok(1..)) {} });
                    Ok(connect)
                }
                Err(why) => Err(why.to_string()),
            };
            if seen.send(greeted).await.is_err() {
                return;
            }
        }
    });
    (port, clients)
}

/// Connects to a broker at `host`. Trusts `authorities`.
fn connect(
    host: &str,
    port: u16,
    authorities: &[rustls::pki_types::CertificateDer<'static>],
) -> (Mqtt, CancellationToken) {
    let config = toml::from_str(&format!("url = \"mqtts://{host}:{port}\"\nclient_id = \"hub\"")).unwrap();
    let (stop, tls) = (CancellationToken::new(), client_trusting(authorities));
    let (mqtt, keeper) = Mqtt::with_tls(&config, Path::new("/"), true, stop.clone(), &|| tls.clone()).unwrap();
    tokio::spawn(keeper);
    (mqtt, stop)
}

#[tokio::test]
async fn broker_is_trusted_if_its_authority_is_and_its_name_matches() {
    let household = Household::new();
    let (port, mut clients) = broker(&household).await;
    let greeting =
        async |clients: &mut mpsc::Receiver<_>| tokio::time::timeout(SOON, clients.recv()).await.unwrap().unwrap();

    let (mqtt, stop) = connect("localhost", port, &[household.authority()]);
    let greeted: Result<Vec<u8>, String> = greeting(&mut clients).await;
    let connect_packet = greeted.unwrap();
    assert!(connect_packet.windows(4).any(|bytes| bytes == b"MQTT"), "{connect_packet:?}");
    let mut ready = mqtt.ready();
    tokio::time::timeout(SOON, ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
    stop.cancel();

    // An authority that the hub does not know, and a certificate for another name.
    for (host, authorities) in [("localhost", &[][..]), ("127.0.0.1", &[household.authority()])] {
        let (mqtt, stop) = connect(host, port, authorities);
        greeting(&mut clients).await.unwrap_err();
        assert!(!mqtt.is_connected(), "{host}");
        stop.cancel();
    }
}
