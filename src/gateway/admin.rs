//! Who may use `/admin`: the bearer of the token; without one configured, only who is on this
//! machine and is no web page. Invariant: every admin handler takes an [`Admin`], and an
//! [`Admin`] is made here only.

use std::{
    future::{Ready, ready},
    net::IpAddr,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap, HeaderValue},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    problem::Problem,
    problems::{ADMIN_CLOSED, UNAUTHORIZED},
    shared::Shared,
};

/// Proof that the caller may administrate.
#[derive(Debug)]
pub(crate) struct Admin(());

impl FromRequest for Admin {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Shared::of(req).and_then(|shared| {
            let settings = &shared.settings;
            match &settings.admin_token {
                Some(token) => bears(req.headers(), token),
                None => {
                    let peer = req.peer_addr().map(|peer| peer.ip());
                    is_direct_and_local(settings.listen.ip(), peer, req.headers())
                }
            }
            .map(|()| Self(()))
        }))
    }
}

/// Whether the headers bear the token.
fn bears(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
    // Digests are of one length, so that comparing tells nothing of the token's.
    let same = Sha256::digest(given).as_slice().ct_eq(Sha256::digest(token).as_slice());
    if scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(same) {
        return Ok(());
    }
    let ask = HeaderValue::from_static("Bearer realm=\"greenroom admin\"");
    Err(Problem::of(&UNAUTHORIZED).header(header::WWW_AUTHENTICATE, ask))
}

/// Whether the caller is a program on this machine that talks to us directly: not a proxy that
/// forwards for somebody else, and not a page in a browser, be it by DNS rebinding (`Host`) or
/// across origins (`Origin`).
fn is_direct_and_local(listen: IpAddr, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Problem> {
    let closed = |why: &str| Err(Problem::of(&ADMIN_CLOSED).detail(why));
    if !listen.is_loopback() || !peer.is_some_and(|peer| peer.is_loopback()) {
        return closed("No admin_token is configured, and this is not the loopback address.");
    }
    if ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name)) {
        return closed("No admin_token is configured, and the request comes through a proxy.");
    }
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if headers.get_all(header::HOST).count() != 1 || !is_local_host(host) {
        return closed("No admin_token is configured, and the Host header is not a loopback name.");
    }
    let same_origin = match text(header::ORIGIN) {
        Some(origin) => origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
        None => !headers.contains_key(header::ORIGIN),
    };
    let same_site = headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    if !same_origin || !same_site {
        return closed("No admin_token is configured, and the request comes from a page of another origin.");
    }
    Ok(())
}

/// Whether a `Host` header names the loopback address.
pub(crate) fn is_local_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some(parts) => parts,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_is_right = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (port.is_empty() || port_is_right(port))
        && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        HeaderMap::from_iter(pairs)
    }

    #[test]
    fn only_the_bearer_of_the_token_is_let_in() {
        let token = "0123456789abcdef";
        let given = |value: &str| bears(&headers(&[("authorization", value)]), token).is_ok();
        assert!(given("Bearer 0123456789abcdef") && given("bearer 0123456789abcdef"));
        for bad in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdefg", "Basic 0123456789abcdef"]
        {
            assert!(!given(bad), "{bad}");
        }
        assert_eq!(bears(&HeaderMap::new(), token).unwrap_err().status(), 401);
    }

    #[test]
    fn without_a_token_only_direct_local_callers_are_let_in() {
        let check = |pairs: &[(&str, &str)]| is_direct_and_local(LOCAL, Some(LOCAL), &headers(pairs)).is_ok();
        assert!(check(&[("host", "127.0.0.1:8080")]));
        assert!(check(&[("host", "localhost")]));
        assert!(check(&[("host", "[::1]:8080")]));
        assert!(check(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        for refused in [
            &[][..],
            &[("host", "rebound.example")],
            &[("host", "127.0.0.1.rebound.example")],
            &[("host", "localhost:8080:1")],
            &[("host", "localhost:8080"), ("origin", "http://localhost:9090")],
            &[("host", "localhost:8080"), ("origin", "https://evil.example")],
            &[("host", "localhost:8080"), ("origin", "null")],
            &[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost:8080"), ("sec-fetch-site", "same-site")],
            &[("host", "localhost:8080"), ("x-forwarded-for", "1.2.3.4")],
        ] {
            assert!(!check(refused), "{refused:?}");
        }
        let anywhere: IpAddr = "0.0.0.0".parse().unwrap();
        let host = headers(&[("host", "localhost")]);
        assert!(is_direct_and_local(anywhere, Some(LOCAL), &host).is_err());
        assert!(is_direct_and_local(LOCAL, Some("10.0.0.1".parse().unwrap()), &host).is_err());
        assert!(is_direct_and_local(LOCAL, None, &host).is_err());
    }

    proptest! {
        #[test]
        fn no_host_that_only_looks_local_is_local(host in "(localhost|127\\.0\\.0\\.1|\\[::1\\])[a-z0-9.@\\[\\]-]{1,20}") {
            // 127.0.0.1 with more digits is another loopback address; nothing else that is longer is.
            prop_assert!(!is_local_host(&host) || host.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
        }
    }
}
