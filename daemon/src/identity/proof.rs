//! The proof that a program holds its key: a signature over a challenge that nobody could know before.

use std::net::{IpAddr, SocketAddr};

use super::key::{Key, is_signed_by};
use super::node_id::NodeId;

/// Number of bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;

/// What every signed message begins with, so that a signature made for this purpose is good for no other.
const PREFIX: &[u8] = b"meowlink node proof v1\0";

/// Why an id is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The signature is by another key, or over another challenge, boot id or address. So it is when another machine
    /// passes the challenge on to the one that holds the key.
    #[error("its signature is not by this key for this challenge, boot id and address")]
    Signature,
}

/// Signs `challenge` for the one who asked. `address` is the local address of the connection on which it was asked, as
/// the program that signs sees it: a machine between the two has another one.
pub fn prove(key: &Key, challenge: &[u8; CHALLENGE_BYTES], boot_id: u64, address: SocketAddr) -> Vec<u8> {
    key.sign(&message(challenge, boot_id, address))
}

/// Returns the id that is proved by `signature`, by the key with this SubjectPublicKeyInfo. `address` is the address
/// that was dialled.
///
/// # Errors
/// If the signature is not good.
pub fn verify(
    spki: &[u8],
    signature: &[u8],
    challenge: &[u8; CHALLENGE_BYTES],
    boot_id: u64,
    address: SocketAddr,
) -> Result<NodeId, ProofError> {
    if is_signed_by(spki, &message(challenge, boot_id, address), signature) {
        Ok(NodeId::of_spki(spki))
    } else {
        Err(ProofError::Signature)
    }
}

/// Prefix, challenge, boot id (8 bytes, big endian), address (16 bytes, an IPv4 address as ::ffff:a.b.c.d) and port (2
/// bytes, big endian).
fn message(challenge: &[u8; CHALLENGE_BYTES], boot_id: u64, address: SocketAddr) -> Vec<u8> {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    [PREFIX, challenge, &boot_id.to_be_bytes(), &ip.octets(), &address.port().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: [u8; CHALLENGE_BYTES] = [7; CHALLENGE_BYTES];

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn holder_of_the_key_is_believed() {
        let (key, _) = Key::generate().unwrap();
        let signature = prove(&key, &CHALLENGE, 5, address("192.0.2.1:50056"));
        let proved = |at: &str| verify(key.spki(), &signature, &CHALLENGE, 5, address(at));
        assert_eq!(proved("192.0.2.1:50056"), Ok(key.id()));
        // The same address, as a socket that takes IPv4 and IPv6 gives it.
        assert_eq!(proved("[::ffff:192.0.2.1]:50056"), Ok(key.id()));
    }

    #[test]
    fn what_was_signed_for_something_else_proves_nothing() {
        let (key, _) = Key::generate().unwrap();
        let (other, _) = Key::generate().unwrap();
        let here = address("192.0.2.1:50056");
        let signature = prove(&key, &CHALLENGE, 5, here);
        let refused = Err(ProofError::Signature);
        assert_eq!(verify(other.spki(), &signature, &CHALLENGE, 5, here), refused);
        assert_eq!(verify(key.spki(), &signature, &[8; CHALLENGE_BYTES], 5, here), refused);
        assert_eq!(verify(key.spki(), &signature, &CHALLENGE, 6, here), refused);
        // A relay at another address, or at another port of the same machine.
        assert_eq!(verify(key.spki(), &signature, &CHALLENGE, 5, address("192.0.2.9:50056")), refused);
        assert_eq!(verify(key.spki(), &signature, &CHALLENGE, 5, address("192.0.2.1:50057")), refused);
        assert_eq!(verify(key.spki(), &signature[1..], &CHALLENGE, 5, here), refused);
        assert_eq!(verify(key.spki(), &[], &CHALLENGE, 5, here), refused);
    }
}
