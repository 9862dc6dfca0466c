//! Passwords as argon2id. A hash takes [`MEMORY_KIB`] and a large part of a second on a small machine, so that a stolen
//! database gives away few passwords. At most [`HASHES_AT_ONCE`] are computed at the same time, so a storm of log-ins
//! takes no more than 38 MiB of memory.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use hub_base::error::{Code, Error};
use hub_base::places::Places;
use hub_store::people::PasswordHash;
use subtle::ConstantTimeEq;

/// Memory of a hash, in KiB: 19 MiB, as OWASP recommends for argon2id with two passes.
pub const MEMORY_KIB: u32 = 19 * 1024;

/// Passes over the memory.
pub const PASSES: u32 = 2;

/// Lanes of a hash. They are computed one after the other.
const LANES: u32 = 1;

/// Hashes that are computed at the same time.
pub const HASHES_AT_ONCE: usize = 2;

/// Log-ins that wait for a hash. One more is refused with `too_many_attempts`.
pub const MAX_WAITING: usize = 16;

/// How long a log-in waits for a hash.
const WAIT: Duration = Duration::from_secs(8);

/// Shortest password, in characters.
pub const MIN_CHARACTERS: usize = 8;

/// Longest password, in bytes.
pub const MAX_BYTES: usize = 256;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Most memory that a stored hash may ask for, in KiB.
const MOST_MEMORY_KIB: u32 = 64 * 1024;

/// Computes hashes, a few at a time. Clones share the limits.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    running: Places,
    waiting: Places,
    memory_kib: u32,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        let memory_kib = if cfg!(test) { 64 } else { MEMORY_KIB };
        Self { running: Places::new(HASHES_AT_ONCE), waiting: Places::new(MAX_WAITING), memory_kib }
    }

    /// Hashes a new password.
    pub(crate) async fn hash(&self, password: &str) -> Result<PasswordHash, Error> {
        if password.chars().count() < MIN_CHARACTERS {
            let message = format!("the password is too short; it needs at least {MIN_CHARACTERS} characters");
            return Err(Error::new(Code::BadRequest, message));
        }
        if password.len() > MAX_BYTES {
            let message = format!("the password is too long; it may have at most {MAX_BYTES} bytes");
            return Err(Error::new(Code::BadRequest, message));
        }
        let salt = rand::random::<[u8; SALT_BYTES]>().to_vec();
        let mut new = PasswordHash { salt, hash: Vec::new(), memory_kib: self.memory_kib, passes: PASSES };
        new.hash = self.compute(password, new.clone()).await?;
        Ok(new)
    }

    /// Whether the password is right. Without a known hash it is wrong, after the same time.
    pub(crate) async fn check(&self, password: &str, known: Option<PasswordHash>) -> Result<bool, Error> {
        if password.len() > MAX_BYTES {
            return Ok(false);
        }
        let unknown = || PasswordHash {
            salt: vec![0; SALT_BYTES],
            hash: Vec::new(),
            memory_kib: self.memory_kib,
            passes: PASSES,
        };
        let known = known.unwrap_or_else(unknown);
        let computed = self.compute(password, known.clone()).await?;
        Ok(computed.ct_eq(&known.hash).into())
    }

    async fn compute(&self, password: &str, with: PasswordHash) -> Result<Vec<u8>, Error> {
        let busy = || Error::new(Code::TooManyAttempts, "too many log-ins are being checked; try again in a minute");
        let waiting = self.waiting.try_take().ok_or_else(busy)?;
        let turn = tokio::time::timeout(WAIT, self.running.take()).await.map_err(|_| busy())?;
        drop(waiting);
        let password = password.to_owned();
        // Whoever gives up waiting does not free the place: the memory is in use until the hash is done.
        let computed = tokio::task::spawn_blocking(move || {
            let computed = compute(password.as_bytes(), &with);
            drop(turn);
            computed
        });
        let failed = |why: String| Error::new(Code::Internal, format!("the password cannot be hashed: {why}"));
        computed.await.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }
}

fn compute(password: &[u8], with: &PasswordHash) -> Result<Vec<u8>, argon2::Error> {
    if with.memory_kib > MOST_MEMORY_KIB {
        return Err(argon2::Error::MemoryTooMuch);
    }
    let parameters = Params::new(with.memory_kib, with.passes, LANES, Some(HASH_BYTES))?;
    let mut hash = vec![0; HASH_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters).hash_password_into(password, &with.salt, &mut hash)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_that_of_the_standard() {
        // From the tests of the reference implementation.
        let with = PasswordHash { salt: b"somesalt".to_vec(), hash: vec![], memory_kib: 65_536, passes: 2 };
        let hash = compute(b"password", &with).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[tokio::test]
    async fn only_the_right_password_fits() {
        let hasher = Hasher::new();
        let known = hasher.hash("correct horse").await.unwrap();
        assert_ne!(known, hasher.hash("correct horse").await.unwrap(), "each hash has its own salt");
        assert!(hasher.check("correct horse", Some(known.clone())).await.unwrap());
        assert!(!hasher.check("correct house", Some(known)).await.unwrap());
        assert!(!hasher.check("", None).await.unwrap());
        assert_eq!(hasher.hash("short").await.unwrap_err().code, Code::BadRequest);
        assert_eq!(hasher.hash(&"x".repeat(MAX_BYTES + 1)).await.unwrap_err().code, Code::BadRequest);
    }

    #[tokio::test]
    async fn no_more_hashes_run_and_wait_than_there_are_places() {
        let hasher = Hasher::new();
        let held = [hasher.running.take().await, hasher.running.take().await];
        let waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.check("password", None).await })
            })
            .collect();
        while hasher.waiting.taken() < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        let refused = hasher.check("password", None).await.unwrap_err();
        assert_eq!(refused.code, Code::TooManyAttempts);
        drop(held);
        for one in waiting {
            assert!(!one.await.unwrap().unwrap());
        }
    }
}
