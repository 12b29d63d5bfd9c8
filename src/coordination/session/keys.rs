//! Signing cookies and checking them, so that one that is malformed or forged never reaches a store.
//! Invariant: comparing takes the same time whatever is wrong.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::{
    id::{Id, SECRET, first},
    settings::Settings,
};
use crate::backend::sessions::{DRAWERS, SessionKey, SessionName};

type Mac = Hmac<Sha256>;

/// The first byte of a cookie's value: what follows.
const FORMAT: u8 = 1;
/// Format, drawer, name, secret.
const SIGNED: usize = 1 + 2 + 12 + SECRET;
const SIGNATURE: usize = 16;

/// The keys of all nodes of a store.
pub(super) struct Keys {
    /// The first signs.
    signing: Vec<Mac>,
    renewing: Mac,
}

/// A keyed digest. The key's own digest fills half a block, so any length will do.
fn keyed(purpose: &[u8], key: &[u8]) -> Mac {
    let mut block = [0; 64];
    block[..32].copy_from_slice(&Sha256::new().chain_update(purpose).chain_update(key).finalize());
    Mac::new(&block.into())
}

impl Keys {
    pub(super) fn new(settings: &Settings, store: &[u8; 32]) -> Self {
        let mut signing: Vec<Mac> = settings.secrets().map(|key| keyed(b"session cookie:", key.as_bytes())).collect();
        if signing.is_empty() {
            signing.push(keyed(b"session cookie of the store:", store));
        }
        Self { signing, renewing: keyed(b"session renewal of the store:", store) }
    }

    /// An id as the value of a cookie.
    pub(super) fn seal(&self, id: &Id) -> String {
        let mut bytes = [0; SIGNED + SIGNATURE];
        bytes[0] = FORMAT;
        bytes[1..3].copy_from_slice(&id.key.drawer.to_be_bytes());
        bytes[3..15].copy_from_slice(&id.key.name.0);
        bytes[15..SIGNED].copy_from_slice(&id.secret);
        if let Some(mac) = self.signing.first() {
            let signature = sign(mac, &bytes[..SIGNED]);
            bytes[SIGNED..].copy_from_slice(&signature);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The id in the value of a cookie; `None` when we never signed it.
    pub(super) fn open(&self, value: &str) -> Option<Id> {
        let mut bytes = [0; SIGNED + SIGNATURE];
        // Of exactly this length, or it does not fit.
        if URL_SAFE_NO_PAD.decode_slice(value, &mut bytes) != Ok(bytes.len()) {
            return None;
        }
        let (signed, signature) = bytes.split_at(SIGNED);
        let genuine = self.signing.iter().any(|mac| bool::from(sign(mac, signed).as_slice().ct_eq(signature)));
        let drawer = u16::from_be_bytes([signed[1], signed[2]]);
        (genuine && signed[0] == FORMAT && drawer < DRAWERS).then(|| Id {
            key: SessionKey { drawer, name: SessionName(first(&signed[3..])) },
            secret: first(&signed[15..]),
        })
    }

    /// The id that follows on `id` by a nonce: whoever has both of them makes the same one, so requests
    /// that arrive together are all told it. Nobody makes it without the store's secret.
    pub(super) fn renewed(&self, id: &Id, nonce: &[u8; 16]) -> Id {
        let mac = self.renewing.clone().chain_update(id.secret).chain_update(nonce);
        id.with(first(&mac.finalize().into_bytes()))
    }
}

fn sign(mac: &Mac, bytes: &[u8]) -> [u8; SIGNATURE] {
    first(&mac.clone().chain_update(bytes).finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Secret;

    fn keys(secrets: &str) -> Keys {
        Keys::new(&Settings { secret: Secret::new(secrets), ..Settings::default() }, &[7; 32])
    }

    const OLD: &str = "an-old-secret-of-thirty-two-characters";
    const NEW: &str = "a-new-secret-of-thirty-two-characters!";

    #[test]
    fn a_cookie_opens_only_as_it_was_sealed() {
        let keys = keys("");
        let id = Id::new(Some("ann"));
        let value = keys.seal(&id);
        assert_eq!(keys.open(&value), Some(id));
        assert_eq!(value.len(), 68);
        for at in 0..value.len() {
            let mut other = value.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.open(std::str::from_utf8(&other).unwrap()), None, "changed at {at}");
        }
        for bad in ["", "A", &value[..67], &format!("{value}A"), &format!("{value}=")] {
            assert_eq!(keys.open(bad), None, "{bad}");
        }
        let other = Keys::new(&Settings::default(), &[8; 32]);
        assert_eq!(other.open(&value), None, "another store's");
    }

    #[test]
    fn secrets_are_changed_without_logging_anybody_out() {
        let (before, both, after) = (keys(OLD), keys(&format!("{NEW}\n{OLD}\n")), keys(NEW));
        let value = before.seal(&Id::new(None));
        assert!(both.open(&value).is_some());
        assert!(after.open(&value).is_none());
        let value = both.seal(&Id::new(None));
        assert!(after.open(&value).is_some() && before.open(&value).is_none(), "the first one signs");
    }

    #[test]
    fn a_renewed_id_is_the_same_for_all_who_know_the_nonce() {
        let keys = keys("");
        let id = Id::new(None);
        let next = keys.renewed(&id, &[1; 16]);
        assert_eq!(next, keys.renewed(&id, &[1; 16]));
        assert_eq!(next.key, id.key);
        for other in [id, keys.renewed(&id, &[2; 16]), Keys::new(&Settings::default(), &[8; 32]).renewed(&id, &[1; 16])]
        {
            assert_ne!(other.secret, next.secret);
        }
    }

    proptest! {
        #[test]
        fn no_cookie_breaks_it(value in "[A-Za-z0-9_=-]{0,80}") {
            prop_assert_eq!(keys("").open(&value), None);
        }
    }
}
