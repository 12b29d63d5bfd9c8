//! `Idempotency-Key`: a repeat of the same request happens once and gets the first answer.
//! Invariant: the same scope and key always lead to the same actor, so a repeat meets the first
//! in one mailbox, on whichever node it arrives.

use std::cell::Cell;

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{HeaderMap, HeaderName},
};
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{
    problem::{Place, Problem},
    problems,
    shared::Shared,
};
use crate::backend::Idempotency;

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that the answer is the first one, given again.
pub(crate) static IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The name space of ids derived from keys. Changing it would make repeats miss their first.
const NAMES: Uuid = Uuid::from_u128(0x6772_6565_6e72_6f6f_6d2d_6964_656d_706f);

/// A client's key within its scope.
#[derive(Debug)]
pub(crate) struct Key {
    /// Method, path, tenant and key: what is stored.
    scoped: String,
    /// How many ids were derived from it.
    derived: Cell<u32>,
}

impl Key {
    /// The request's key, if it has one. The path is part of the scope, so equal keys sent to
    /// different things stay apart, whether or not these share a partition.
    pub(crate) fn of(req: &HttpRequest) -> Result<Option<Self>, Problem> {
        let Some(key) = read(req.headers())? else { return Ok(None) };
        let (method, path) = (req.method().as_str(), req.path());
        Ok(Some(Self { scoped: format!("{method} {path} {key}"), derived: Cell::new(0) }))
    }

    /// As it is stored, with the answer to repeat.
    pub(crate) fn stored(&self, req: &HttpRequest, answer: String, shared: &Shared) -> Idempotency {
        let retention = shared.settings.idempotency_retention.as_millis().min(i64::MAX as u128) as i64;
        let expires = shared.node.clock().now().saturating_add(retention);
        Idempotency { key: self.scoped.clone(), fingerprint: fingerprint(req), answer, expires }
    }

    /// Keeps the key apart from other tenants'.
    pub(crate) fn within(&mut self, tenant: &str) {
        self.scoped = format!("{tenant}\0{}", self.scoped);
    }

    /// A UUID that every repeat derives again: the first call's, the second call's, and so on.
    pub(crate) fn id(&self) -> Uuid {
        let nth = self.derived.replace(self.derived.get() + 1);
        Uuid::new_v5(&NAMES, format!("{}\0{nth}", self.scoped).as_bytes())
    }
}

/// The key in the headers, checked.
fn read(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    let refuse = |reason| {
        let place = Place::Header("Idempotency-Key".into());
        Err(Problem::of(&problems::MALFORMED_HEADER).fault(place, reason))
    };
    if values.next().is_some() {
        return refuse("sent more than once");
    }
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => Ok(Some(key)),
        _ => refuse("expected 1 to 255 visible ASCII characters"),
    }
}

/// The digest of a body that was read under a key; left behind by whatever read the body.
struct BodyDigest(u64);

/// Remembers the body for the fingerprint, if the request has a key.
pub(crate) fn remember_body(req: &HttpRequest, body: &[u8]) {
    if req.headers().contains_key(&IDEMPOTENCY_KEY) {
        req.extensions_mut().insert(BodyDigest(xxh3_64(body)));
    }
}

/// Digest of what was asked: method, path, query and the body to the byte.
fn fingerprint(req: &HttpRequest) -> u64 {
    let mut digest = Xxh3::new();
    for part in [req.method().as_str(), req.path(), req.query_string()] {
        digest.update(part.as_bytes());
        digest.update(&[0]);
    }
    // A body that nothing read had no influence on what was asked.
    let body = req.extensions().get::<BodyDigest>().map_or(0, |body| body.0);
    digest.update(&body.to_le_bytes());
    digest.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::{http::header::HeaderValue, test::TestRequest};
    use proptest::prelude::*;

    fn request(key: &str, uri: &str) -> HttpRequest {
        TestRequest::post().uri(uri).insert_header((IDEMPOTENCY_KEY.clone(), key)).to_http_request()
    }

    #[test]
    fn a_repeat_derives_the_same_ids_in_the_same_order() {
        let ids = |key: &str, uri: &str| {
            let key = Key::of(&request(key, uri)).unwrap().unwrap();
            [key.id(), key.id()]
        };
        assert_eq!(ids("k", "/orders"), ids("k", "/orders"));
        assert_ne!(ids("k", "/orders")[0], ids("k", "/orders")[1]);
        assert_ne!(ids("k", "/orders"), ids("l", "/orders"));
        assert_ne!(ids("k", "/orders"), ids("k", "/carts"));
        // Stored keys depend on it.
        assert_eq!(ids("k", "/orders")[0].to_string(), "0bb96ece-e7f8-583e-944a-d2a2f6069e12");
    }

    #[test]
    fn the_fingerprint_sees_query_and_body() {
        let print = |uri: &str, body: &[u8]| {
            let req = request("k", uri);
            remember_body(&req, body);
            fingerprint(&req)
        };
        assert_eq!(print("/orders", b"{}"), print("/orders", b"{}"));
        assert_ne!(print("/orders", b"{}"), print("/orders", b"{ }"));
        assert_ne!(print("/orders?a=1", b"{}"), print("/orders?a=2", b"{}"));
    }

    #[test]
    fn two_keys_are_refused() {
        let mut headers = HeaderMap::new();
        headers.append(IDEMPOTENCY_KEY.clone(), HeaderValue::from_static("a"));
        headers.append(IDEMPOTENCY_KEY.clone(), HeaderValue::from_static("b"));
        assert_eq!(read(&headers).unwrap_err().status(), 400);
    }

    proptest! {
        #[test]
        fn a_key_is_read_whole_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY.clone(), value);
            match read(&headers) {
                Ok(key) => prop_assert_eq!(key.map(str::as_bytes), Some(&bytes[..])),
                Err(problem) => prop_assert_eq!(problem.status(), 400),
            }
        }
    }
}
