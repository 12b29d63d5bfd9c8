//! The public name of an accepted message: a UUID that tells where the message is and cannot be
//! guessed, so looking one up needs no index and guessing one finds nothing.

use std::{fmt, str::FromStr};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::{envelope::Position, error::Error};

/// A request id: a version 8 UUID (RFC 9562 §5.8) of the message's number (48 bits), its
/// partition (12 bits) and a keyed digest of both (62 bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Uuid);

/// Partitions fit the 12 bits of the id.
pub const MAX_PARTITIONS: u16 = 4096;

impl RequestId {
    /// The id of a position under the store's secret.
    pub fn seal(position: Position, secret: &[u8; 32]) -> Self {
        Self::named(position, secret, b"")
    }

    fn named(position: Position, secret: &[u8; 32], name: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&position.number().to_be_bytes()[2..]);
        bytes[6..8].copy_from_slice(&(position.partition() & 0x0fff).to_be_bytes());
        // HMAC takes a key of any length, so this cannot fail; an empty digest would only make
        // ids guessable, never wrong.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
            mac.update(&position.packed().to_be_bytes());
            mac.update(name);
            bytes[8..].copy_from_slice(&mac.finalize().into_bytes()[..8]);
        }
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// What the idempotency keys of the steps of the command at a position begin with. No request id, and
    /// none can be made of it: vendors see these keys, and must not be able to complete signals.
    pub(crate) fn step_key(position: Position, secret: &[u8; 32]) -> String {
        Self::named(position, secret, b"step").to_string()
    }

    /// An id made of a text, that nobody can make who does not know the store's secret. No request id.
    pub(crate) fn made_of(text: &str, secret: &[u8; 32]) -> Uuid {
        let mut bytes = [0; 16];
        // As in `named`.
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
            mac.update(b"made of");
            mac.update(text.as_bytes());
            bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        }
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// The position, if this id was made under `secret`.
    pub fn open(self, secret: &[u8; 32]) -> Option<Position> {
        let bytes = self.0.as_bytes();
        let mut number = [0; 8];
        number[2..].copy_from_slice(&bytes[..6]);
        let partition = u16::from_be_bytes([bytes[6], bytes[7]]) & 0x0fff;
        let position = Position::new(partition, u64::from_be_bytes(number));
        let genuine = subtle::ConstantTimeEq::ct_eq(Self::seal(position, secret).0.as_bytes().as_slice(), bytes);
        bool::from(genuine).then_some(position)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| Error::terminal(format!("{text:?} is no request id: expected a UUID")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_opens_only_with_its_secret_and_unchanged() {
        let position = Position::new(4095, (1 << 48) - 1);
        let id = RequestId::seal(position, &[7; 32]);
        assert_eq!(id.to_string().parse::<RequestId>().unwrap().open(&[7; 32]), Some(position));
        assert_eq!(id.open(&[8; 32]), None);
        let mut bytes = *id.0.as_bytes();
        bytes[5] ^= 1;
        assert_eq!(RequestId(Uuid::from_bytes(bytes)).open(&[7; 32]), None);
        let key: RequestId = RequestId::step_key(position, &[7; 32]).parse().unwrap();
        assert_eq!(key.open(&[7; 32]), None, "whoever sees a step's key does not know the id");
    }
}
