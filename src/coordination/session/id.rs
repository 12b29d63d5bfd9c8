//! What a cookie holds: where its session is, and the secret that opens it.
//! Invariant: the secret has more than 128 random bits, is never logged, and is stored as a digest only.

use std::fmt;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::backend::sessions::{DRAWERS, Digest, SessionKey, SessionName, drawer_of};

/// Bytes of a secret.
pub(super) const SECRET: usize = 20;

/// An id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) key: SessionKey,
    pub(super) secret: [u8; SECRET],
}

impl Id {
    /// A new one, in the drawer of the user, or in any.
    pub(super) fn new(user: Option<&str>) -> Self {
        let name: [u8; 12] = random();
        let drawer = user.map_or_else(|| u16::from_be_bytes([name[0], name[1]]) % DRAWERS, drawer_of);
        Self { key: SessionKey { drawer, name: SessionName(name) }, secret: random() }
    }

    /// The same session under another secret.
    pub(super) fn with(self, secret: [u8; SECRET]) -> Self {
        Self { secret, ..self }
    }

    /// What a store knows of the secret.
    pub(super) fn digest(&self) -> Digest {
        first(&Sha256::digest(self.secret))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key.name)
    }
}

/// Bytes of which 244 bits are random.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let [one, two] = [Uuid::new_v4(), Uuid::new_v4()];
    first(&Sha256::new().chain_update(one.as_bytes()).chain_update(two.as_bytes()).finalize())
}

/// The first bytes of a digest, which has more than anybody asks for.
pub(super) fn first<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let length = N.min(digest.len());
    bytes[..length].copy_from_slice(&digest[..length]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_tell_nothing_of_their_secret() {
        let (one, two) = (Id::new(Some("ann")), Id::new(Some("ann")));
        assert_eq!(one.key.drawer, two.key.drawer);
        assert_ne!(one.key.name, two.key.name);
        assert_ne!(one.secret, two.secret);
        assert_eq!(one.with(two.secret).digest(), two.digest());
        assert_ne!(&one.digest()[..], &one.secret[..16]);
        assert_eq!(format!("{one:?}"), one.key.name.to_string());
        assert!((0..1000).all(|_| Id::new(None).key.drawer < DRAWERS));
    }
}
