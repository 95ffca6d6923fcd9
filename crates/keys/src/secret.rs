//! Key material: made from the system's random bytes, shown once, kept as SHA-256 only.

use crate::error::KeysError;
use sha2::{Digest, Sha256};
use std::fmt;

/// What every key begins with, so that scanners for leaked secrets can know ours.
const PREFIX: &str = "vonk-";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// Random bytes of a key's id.
const ID_BYTES: usize = 8;

/// SHA-256 of a key as it is sent. A key has 256 random bits, so nothing slower is needed; and as the hash is looked up,
/// the time it takes says nothing about how much of a guess is right.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(pub(crate) [u8; 32]);

impl KeyHash {
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A new key and its hash.
pub(crate) fn mint() -> Result<(String, KeyHash), KeysError> {
    let key = format!("{PREFIX}{}", random_hex::<SECRET_BYTES>()?);
    let hash = KeyHash::of(key.as_bytes());
    Ok((key, hash))
}

/// A new id: no secret, only a name.
pub(crate) fn mint_id() -> Result<String, KeysError> {
    Ok(format!("key_{}", random_hex::<ID_BYTES>()?))
}

fn random_hex<const N: usize>() -> Result<String, KeysError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn keys_have_256_bits_and_differ() {
        let (a, hash) = mint().unwrap();
        let (b, _) = mint().unwrap();
        assert_ne!(a, b);
        assert_eq!((a.len(), &a[..5]), (5 + 64, "vonk-"));
        assert!(a[5..].bytes().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(hash, KeyHash::of(a.as_bytes()));
        assert_eq!(format!("{hash:?}"), "KeyHash(..)", "not even the hash is printed");
    }

    #[test]
    fn the_hash_is_sha_256() {
        let hex: String = KeyHash::of(b"abc").0.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"); // FIPS 180-2, B.1
    }
}
