//! A place among a channel's events, and the token by which a client names it.
//!
//! A channel that nobody uses is forgotten, and numbers anew when it is used again; so a place is in one
//! *life* of it. Invariant: a token is of one channel, and none can be made without the store's secret.

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// After the event of this number, in this life of the channel; number 0 is before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    #[serde(rename = "l")]
    pub(crate) life: u64,
    #[serde(rename = "n")]
    pub(crate) n: u64,
}

/// Three numbers of 16 hexadecimal digits: life, number, and a keyed digest of both and the channel.
const LENGTH: usize = 48;

/// Why a token is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It has another form.
    Malformed,
    /// It was not made here, or for another channel.
    Foreign,
}

impl Mark {
    /// What a client is given.
    pub(crate) fn token(self, channel: &str, secret: &[u8; 32]) -> String {
        format!("{:016x}{:016x}{:016x}", self.life, self.n, self.digest(channel, secret))
    }

    /// What a client gave back.
    pub(crate) fn read(token: &str, channel: &str, secret: &[u8; 32]) -> Result<Self, Bad> {
        if token.len() != LENGTH || !token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Bad::Malformed);
        }
        let part = |from: usize| u64::from_str_radix(&token[from..from + 16], 16).map_err(|_| Bad::Malformed);
        let mark = Self { life: part(0)?, n: part(16)? };
        let same = mark.digest(channel, secret).to_be_bytes().ct_eq(&part(32)?.to_be_bytes());
        if bool::from(same) { Ok(mark) } else { Err(Bad::Foreign) }
    }

    fn digest(self, channel: &str, secret: &[u8; 32]) -> u64 {
        // HMAC takes a key of any length, so this cannot fail.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return 0 };
        mac.update(b"live");
        mac.update(&self.life.to_be_bytes());
        mac.update(&self.n.to_be_bytes());
        mac.update(channel.as_bytes());
        let mut digest = [0; 8];
        digest.copy_from_slice(&mac.finalize().into_bytes()[..8]);
        u64::from_be_bytes(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = [7; 32];

    #[test]
    fn a_token_is_of_one_channel_and_one_store() {
        let mark = Mark { life: 5 << 48 | 9, n: 3 };
        let token = mark.token("user-7", &SECRET);
        assert_eq!(token, "000500000000000900000000000000037282b9990ba18bbf");
        assert_eq!(Mark::read(&token, "user-7", &SECRET), Ok(mark));
        assert_eq!(Mark::read(&token, "user-8", &SECRET), Err(Bad::Foreign));
        assert_eq!(Mark::read(&token, "user-7", &[8; 32]), Err(Bad::Foreign));
        let later = token.replacen("00000003", "00000004", 1);
        assert_eq!(Mark::read(&later, "user-7", &SECRET), Err(Bad::Foreign));
    }

    proptest! {
        #[test]
        fn whatever_is_given_back_is_read_or_refused(text in ".{0,60}", life in any::<u64>(), n in any::<u64>()) {
            prop_assert!(Mark::read(&text, "c", &SECRET).is_err());
            let mark = Mark { life, n };
            prop_assert_eq!(Mark::read(&mark.token("c", &SECRET), "c", &SECRET), Ok(mark));
        }
    }
}
