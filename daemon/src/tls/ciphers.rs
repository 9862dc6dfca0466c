//! Which cipher a connection uses: the cheapest one that both processors are good at.
//!
//! A processor with instructions for AES is fastest with AES-GCM, and with keys of 128 bits before those of 256. One
//! without them, such as that of a Raspberry Pi 4, is several times faster with ChaCha20-Poly1305. All three are
//! strong.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ServerConfig, SupportedCipherSuite};

/// TLS by `ring`, with the ciphers in the order of their cost on this machine.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(provider_for(has_aes()))
}

/// Chooses by the cost on this machine if it is the slower side, otherwise as the client prefers: a client without
/// instructions for AES asks for ChaCha20 first.
pub fn choose_cipher(config: &mut ServerConfig) {
    choose_cipher_for(config, has_aes());
}

fn choose_cipher_for(config: &mut ServerConfig, has_aes: bool) {
    config.ignore_client_order = !has_aes;
}

/// As [`provider`], for a processor with or without instructions for AES.
pub(super) fn provider_for(has_aes: bool) -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| cost(*suite, has_aes));
    provider
}

/// Sorts TLS 1.3 before TLS 1.2, and then the cheapest cipher first. The names of TLS 1.2 also say how the keys are
/// agreed on.
fn cost(suite: SupportedCipherSuite, has_aes: bool) -> (bool, usize) {
    const WITH_AES: [&str; 3] = ["AES_128_GCM", "AES_256_GCM", "CHACHA20"];
    const WITHOUT: [&str; 3] = ["CHACHA20", "AES_128_GCM", "AES_256_GCM"];
    let cheapest_first = if has_aes { WITH_AES } else { WITHOUT };
    let name = suite.suite().as_str().unwrap_or_default();
    let place = cheapest_first.iter().position(|cipher| name.contains(cipher));
    (suite.tls13().is_none(), place.unwrap_or(cheapest_first.len()))
}

/// Whether this processor has instructions for AES and for the multiplication of GCM.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

/// Whether this processor has instructions for AES. The word means those for the multiplication of GCM too.
#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// `ring` uses no instructions for AES here, such as on 32-bit ARM.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use rustls::client::Resumption;
    use rustls::pki_types::ServerName;
    use rustls::version::TLS13;
    use rustls::{CipherSuite, ClientConfig, ClientConnection, Connection, ServerConnection};

    use super::*;
    use crate::identity::Key;
    use crate::tls::certificate::NoClock;
    use crate::tls::peer_certificate::{Any, Expected};
    use crate::tls::shown::Shown;

    /// The cipher of a connection between a server and a client, of which each has instructions for AES or not.
    fn agreed(server_has_aes: bool, client_has_aes: bool) -> CipherSuite {
        let key = || Arc::new(Shown::new(Arc::new(Key::generate().unwrap().0).into()).unwrap());
        let provider = |has_aes| Arc::new(provider_for(has_aes));
        let algorithms = provider(true).signature_verification_algorithms;
        let mut server = ServerConfig::builder_with_details(provider(server_has_aes), Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Any { is_key_needed: true, algorithms }))
            .with_cert_resolver(key());
        choose_cipher_for(&mut server, server_has_aes);
        let mut client = ClientConfig::builder_with_details(provider(client_has_aes), Arc::new(NoClock))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Expected { fingerprints: None, algorithms }))
            .with_client_cert_resolver(key());
        client.resumption = Resumption::disabled();
        let name = ServerName::try_from("meowlink").unwrap();
        let mut ends = [
            Connection::from(ClientConnection::new(Arc::new(client), name).unwrap()),
            Connection::from(ServerConnection::new(Arc::new(server)).unwrap()),
        ];
        // A handshake takes two messages of the client and one of the server.
        for turn in 0..4 {
            let mut sent = Vec::new();
            while ends[turn % 2].wants_write() {
                ends[turn % 2].write_tls(&mut sent).unwrap();
            }
            let mut rest = &sent[..];
            while !rest.is_empty() {
                ends[(turn + 1) % 2].read_tls(&mut rest).unwrap();
                ends[(turn + 1) % 2].process_new_packets().unwrap();
            }
        }
        assert!(ends.iter().all(|end| !end.is_handshaking()));
        ends[1].negotiated_cipher_suite().unwrap().suite()
    }

    #[test]
    fn slower_side_chooses_the_cipher() {
        assert_eq!(agreed(true, true), CipherSuite::TLS13_AES_128_GCM_SHA256);
        for (server_has_aes, client_has_aes) in [(false, true), (true, false), (false, false)] {
            let agreed = agreed(server_has_aes, client_has_aes);
            assert_eq!(agreed, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, "{server_has_aes} {client_has_aes}");
        }
    }

    #[test]
    fn browsers_of_both_versions_get_the_cheapest_cipher() {
        for (has_aes, cheapest) in [(true, "AES_128_GCM"), (false, "CHACHA20_POLY1305")] {
            let suites = provider_for(has_aes).cipher_suites;
            assert_eq!(suites.len(), rustls::crypto::ring::default_provider().cipher_suites.len(), "none is left out");
            let first_old = suites.iter().position(|suite| suite.tls13().is_none()).unwrap();
            for first in [0, first_old] {
                let name = suites[first].suite().as_str().unwrap();
                assert!(name.contains(cheapest), "{name}");
            }
            let is_new: Vec<bool> = suites.iter().map(|suite| suite.tls13().is_some()).collect();
            assert!(is_new.is_sorted_by(|one, next| one >= next), "TLS 1.3 comes first");
        }
    }

    #[test]
    fn server_decides_only_without_instructions_for_aes() {
        for has_aes in [true, false] {
            let key = Arc::new(Shown::new(Arc::new(Key::generate().unwrap().0).into()).unwrap());
            let mut server = ServerConfig::builder_with_details(Arc::new(provider_for(has_aes)), Arc::new(NoClock))
                .with_protocol_versions(&[&TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(key);
            choose_cipher_for(&mut server, has_aes);
            assert_eq!(server.ignore_client_order, !has_aes);
        }
    }
}
