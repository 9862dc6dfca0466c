//! The certificates as clients see them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use daemon::opening::Opening;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::authority::Authority;
use super::certificates::Certificates;
use super::clock::{Clock, FLOOR_S};
use super::gate::{Gate, server_config};
use super::leaf::{Leaf, MAX_ADDRESSES, RENEW_BEFORE, VALID};
use super::names::{Names, is_private};

/// How long a test waits before it fails.
const SOON: Duration = Duration::from_secs(30);

/// A day in 2026, in seconds since 1970.
const TODAY_S: u64 = FLOOR_S + 300 * 86_400;

fn names() -> Names {
    Names::of("RaspberryPi.lan", &["fritz.box".to_owned()], ["cats.example.org".to_owned(), "*".to_owned()])
}

/// Whether a client that trusts `authority` accepts the certificate for `name` at the time.
fn accepts(authority: &CertificateDer<'static>, leaf: &CertificateDer<'static>, name: &str, now_s: u64) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build().unwrap();
    let (name, now) = (ServerName::try_from(name.to_owned()).unwrap(), Duration::from_secs(now_s));
    verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::since_unix_epoch(now)).is_ok()
}

/// Certificates below a folder, by a clock that the test sets.
fn certificates(folder: &Path, names: Names, now: &Arc<AtomicU64>) -> Arc<Certificates> {
    let now = Arc::clone(now);
    let clock = Clock::of(move || UNIX_EPOCH + Duration::from_secs(now.load(Ordering::Relaxed)));
    Arc::new(Certificates::own_by(folder, names, clock).unwrap())
}

/// A client that trusts a CA, and offers these versions and protocols.
fn client(authority: &CertificateDer<'static>, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let mut config =
        builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// Shakes hands with the gateway by `name`. Returns the certificate that it shows and the protocol that it takes.
async fn shake(
    certificates: &Arc<Certificates>,
    config: ClientConfig,
    name: &str,
) -> std::io::Result<(CertificateDer<'static>, Option<Vec<u8>>)> {
    let gate = Gate::with_tls(server_config(Arc::clone(certificates)).unwrap(), Arc::clone(certificates), SOON);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        gate.open(stream, peer).await.map(drop)
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    served.await.unwrap()?;
    let session = stream.get_ref().1;
    Ok((session.peer_certificates().unwrap()[0].clone().into_owned(), session.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn names_are_those_of_the_machine_of_the_home_and_of_the_config() {
    let names = names();
    let own = ["cats.example.org", "localhost", "raspberrypi", "raspberrypi.fritz.box", "raspberrypi.local"];
    assert_eq!(names.own, own.map(str::to_owned).into());
    let permitted = ["cats.example.org", "local", "localhost", "raspberrypi"];
    assert_eq!(names.permitted, permitted.map(str::to_owned).into());
    let odd = Names::of("my_pi!", &[], ["192.168.1.7".to_owned(), "a..b".to_owned()]);
    assert_eq!(odd.own, BTreeSet::from(["localhost".to_owned()]));
}

#[test]
fn private_addresses_are_told_from_public_ones() {
    let of = |text: &str| is_private(text.parse().unwrap());
    for private in ["10.1.2.3", "172.31.0.1", "192.168.1.7", "169.254.1.1", "100.127.0.1", "127.0.0.1", "fd00::7"] {
        assert!(of(private), "{private}");
    }
    for public in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::2"] {
        assert!(!of(public), "{public}");
    }
    assert!(of("fe80::1") && of("::1"));
}

#[test]
fn ca_signs_the_home_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, extended) = Authority::open(folder.path(), &names()).unwrap();
    assert!(!extended);
    let address: IpAddr = "192.168.1.7".parse().unwrap();
    let leaf = Leaf::issue(&authority, &names(), vec![address], TODAY_S).unwrap();
    let is_accepted =
        |leaf: &Leaf, name: &str| accepts(authority.certificate(), &leaf.certificate().unwrap(), name, TODAY_S);
    for own in [
        "raspberrypi",
        "raspberrypi.local",
        "raspberrypi.fritz.box",
        "cats.example.org",
        "localhost",
        "127.0.0.1",
        "::1",
        "192.168.1.7",
    ] {
        assert!(is_accepted(&leaf, own), "{own}");
    }
    for wrong in ["evil.example", "other.local", "192.168.1.8"] {
        assert!(!is_accepted(&leaf, wrong), "{wrong}");
    }
    // Whoever steals the key cannot stand for other sites.
    for (stolen, address) in [("bank.example", "192.168.1.7"), ("raspberrypi.local", "8.8.8.8")] {
        let names = Names { own: [stolen.to_owned()].into(), ..Names::default() };
        let address = address.parse().unwrap();
        let leaf = Leaf::issue_beyond(&authority, &names, vec![address], TODAY_S).unwrap();
        assert!(!is_accepted(&leaf, stolen), "{stolen}, {address}");
    }
}

#[test]
fn files_are_private_and_a_restart_keeps_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(TODAY_S));
    let first = certificates(folder.path(), names(), &now);
    for entry in std::fs::read_dir(folder.path().join("tls")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    let leaf = Leaf::read(folder.path()).unwrap();
    let second = certificates(folder.path(), names(), &now);
    assert_eq!(Leaf::read(folder.path()).unwrap(), leaf);
    let fingerprint = |of: &Certificates| of.authority().unwrap().fingerprint();
    assert_eq!(fingerprint(&first), fingerprint(&second));
}

#[test]
fn configured_name_makes_the_ca_larger_over_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(TODAY_S));
    let before = certificates(folder.path(), names(), &now);
    let more = Names::of("raspberrypi", &["cafe.example".to_owned()], ["hub.example.net".to_owned()]);
    let after = certificates(folder.path(), more, &now);
    let (before, after) = (before.authority().unwrap(), after.authority().unwrap());
    assert_eq!((before.key_id(), before.subject()), (after.key_id(), after.subject()));
    assert_ne!(before.fingerprint(), after.fingerprint());
    let permitted = ["cats.example.org", "fritz.box", "hub.example.net", "local", "localhost", "raspberrypi"];
    assert_eq!(after.permitted().collect::<Vec<_>>(), permitted, "the network of a café is not the home");
    let leaf = Leaf::read(folder.path()).unwrap().certificate().unwrap();
    assert!(accepts(after.certificate(), &leaf, "hub.example.net", TODAY_S));
}

#[test]
fn dates_hold_for_a_year_and_survive_a_clock_that_lies() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::open(folder.path(), &names()).unwrap();
    let at = |now_s| Leaf::issue(&authority, &names(), vec![], now_s).unwrap();
    let leaf = at(TODAY_S);
    assert!(leaf.until_s - leaf.from_s < VALID.as_secs() && VALID <= Duration::from_secs(397 * 86_400));
    assert!(leaf.is_good_at(TODAY_S) && leaf.is_good_at(leaf.until_s - RENEW_BEFORE.as_secs()));
    assert!(!leaf.is_good_at(leaf.until_s - RENEW_BEFORE.as_secs() + 1));
    // A machine without a clock starts in 1970, and phones know better.
    let der = |leaf: &Leaf| leaf.certificate().unwrap();
    assert!(leaf.is_good_at(0), "the stored certificate stays");
    assert!(accepts(authority.certificate(), &der(&at(0)), "localhost", FLOOR_S));
    // The clock was ahead when the certificate was made.
    assert!(!at(TODAY_S + 100 * 365 * 86_400).is_good_at(TODAY_S));
}

#[tokio::test]
async fn certificate_is_renewed_while_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(0));
    let certificates = certificates(folder.path(), names(), &now);
    let authority = certificates.authority().unwrap().certificate().clone();
    // The clock of the client is that of this machine. So the dates are not checked here, but the certificates.
    let shown = async |certificates: &Arc<Certificates>| {
        certificates.prepare(None).await;
        Leaf::read(folder.path()).unwrap()
    };
    let made_in_1970 = shown(&certificates).await;
    now.store(TODAY_S, Ordering::Relaxed);
    assert_eq!(shown(&certificates).await, made_in_1970, "it is good for today");
    now.store(TODAY_S + VALID.as_secs(), Ordering::Relaxed);
    let renewed = shown(&certificates).await;
    assert_ne!(renewed, made_in_1970);
    assert!(accepts(&authority, &renewed.certificate().unwrap(), "localhost", TODAY_S + VALID.as_secs()));
    assert_eq!(shown(&certificates).await, renewed, "once is enough");
}

#[tokio::test]
async fn address_that_a_client_dials_comes_into_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(TODAY_S));
    let certificates = certificates(folder.path(), names(), &now);
    for last in 1..=20_u8 {
        certificates.prepare(Some(IpAddr::from([192, 168, 1, last]))).await;
        certificates.prepare(Some(IpAddr::from([8, 8, 8, last]))).await;
        certificates.prepare(Some(IpAddr::from([127, 0, 0, last]))).await;
    }
    let leaf = Leaf::read(folder.path()).unwrap();
    assert_eq!(leaf.addresses.len(), MAX_ADDRESSES);
    assert!(leaf.addresses.iter().all(|address| address.to_string().starts_with("192.168.1.")));
    assert_eq!(leaf.addresses.last(), Some(&IpAddr::from([192, 168, 1, 20])));
}

#[tokio::test]
async fn clients_agree_on_a_version_and_a_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Arc::new(Certificates::own(folder.path(), names()).unwrap());
    let authority = certificates.authority().unwrap().certificate().clone();
    for version in [&TLS12, &TLS13] {
        for (offered, taken) in
            [(&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])), (&[b"http/1.1"], Some(b"http/1.1")), (&[], None)]
        {
            let mut config = client(&authority, &[version]);
            config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            let (_, protocol) = shake(&certificates, config, "localhost").await.unwrap();
            assert_eq!(protocol.as_deref(), taken, "{version:?}");
        }
    }
    let error = shake(&certificates, client(&authority, &[&TLS13]), "evil.example").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

/// Writes a certificate of a CA of its own, and its key, as certbot does. Returns the certificate.
fn write_pem(folder: &Path, names: &Names) -> CertificateDer<'static> {
    let ca = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::open(ca.path(), names).unwrap();
    let leaf = Leaf::issue(&authority, names, vec![], TODAY_S).unwrap();
    let (certificate, key) = leaf.pem();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate).unwrap();
    leaf.certificate().unwrap()
}

fn shown(certificates: &Certificates) -> CertificateDer<'static> {
    certificates.shown().cert[0].clone()
}

#[test]
fn files_are_read_again_when_they_change_and_broken_ones_are_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let first = write_pem(folder.path(), &names());
    let certificates = Certificates::in_files(&cert, &key).unwrap();
    assert_eq!(shown(&certificates), first);
    assert!(!certificates.is_public() && certificates.authority().is_none());

    // The key of the new certificate is not there yet.
    let old_key = std::fs::read(&key).unwrap();
    let second = write_pem(folder.path(), &names());
    let new_key = std::fs::read(&key).unwrap();
    std::fs::write(&key, &old_key).unwrap();
    certificates.reload();
    assert_eq!(shown(&certificates), first);
    std::fs::write(&key, &new_key).unwrap();
    certificates.reload();
    assert_eq!(shown(&certificates), second);

    for broken in ["", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&cert, broken).unwrap();
        certificates.reload();
        assert_eq!(shown(&certificates), second, "{broken}");
    }
    std::fs::remove_file(&cert).unwrap();
    certificates.reload();
    assert_eq!(shown(&certificates), second);

    let third = write_pem(folder.path(), &names());
    certificates.reload();
    assert_eq!(shown(&certificates), third);
}

#[test]
fn files_that_cannot_be_used_name_the_file_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let said = || Certificates::in_files(&cert, &key).unwrap_err().to_string();
    assert!(said().contains("cert.pem"), "{}", said());
    write_pem(folder.path(), &names());
    let old_key = std::fs::read(&key).unwrap();
    write_pem(folder.path(), &names());
    std::fs::write(&key, old_key).unwrap();
    assert!(said().contains("key.pem: is not the key of the certificate"), "{}", said());
    std::fs::write(&key, "meow").unwrap();
    assert!(said().contains("key.pem: has no private key"), "{}", said());
    std::fs::write(&cert, "meow").unwrap();
    assert!(said().contains("cert.pem: has no certificate"), "{}", said());
}

/// What a client that says nothing more holds: the gateway's limits are tested with its server.
#[tokio::test]
async fn plain_connections_pass_with_every_byte() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let folder = tempfile::tempdir().unwrap();
    let certificates = Arc::new(Certificates::own(folder.path(), names()).unwrap());
    let gate = Gate::with_tls(server_config(Arc::clone(&certificates)).unwrap(), certificates, SOON);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    for sent in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"", b"\x15"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        stream.write_all(sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let (mut opened, key) = gate.open(accepted, peer).await.unwrap();
        let mut read = Vec::new();
        opened.read_to_end(&mut read).await.unwrap();
        assert_eq!((read.as_slice(), key), (sent, None));
    }
}
