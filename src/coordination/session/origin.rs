//! Whether a request that changes something comes from our own pages: the cookie is sent along whoever
//! made the browser send the request (cross-site request forgery).
//!
//! Browsers say so themselves, in headers that pages cannot set: `Sec-Fetch-Site` (W3C Fetch Metadata),
//! and before they had that, `Origin` (RFC 6454). Invariant: a request that changes something and shows a
//! session is from the same origin, or refused.

use actix_web::http::{
    Method,
    header::{self, HeaderMap, HeaderValue},
};

use super::settings::Secure;
use crate::gateway::is_local_host;

/// What the headers say of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A page of ours, or the address bar.
    Ours,
    /// A page of somebody else.
    Others,
    /// Nothing: no browser of the last years.
    Unknown,
}

/// Where a request comes from.
pub(super) fn of(headers: &HeaderMap, secure: bool) -> Origin {
    let ours = match (headers.get("sec-fetch-site"), headers.get(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => is_host(origin, host(headers), secure),
        (None, None) => return Origin::Unknown,
    };
    if ours { Origin::Ours } else { Origin::Others }
}

/// Whether a request may change something: by its method, or because it opens a socket, which other
/// origins may do too.
pub(super) fn may_change(method: &Method, headers: &HeaderMap) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || headers.contains_key(header::UPGRADE)
}

/// Whether cookies of this request are for TLS only.
pub(super) fn is_secure(rule: Secure, headers: &HeaderMap) -> bool {
    match rule {
        Secure::Always => true,
        Secure::Never => false,
        // A name that only means this machine; whoever forwards for TLS says so.
        Secure::Auto => !is_local_host(host(headers)) || headers.get("x-forwarded-proto").is_some_and(|p| p == "https"),
    }
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
}

/// Whether an origin is the one that the `Host` header names. Either may leave out the usual port.
fn is_host(origin: &HeaderValue, host: &str, secure: bool) -> bool {
    let (scheme, port) = if secure { ("https://", ":443") } else { ("http://", ":80") };
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix(scheme));
    let plain = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    origin.is_some_and(|origin| !host.is_empty() && plain(origin) == plain(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        HeaderMap::from_iter(pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())))
    }

    #[test]
    fn only_our_own_origin_is_ours() {
        let of = |pairs: &[(&str, &str)]| of(&headers(&[&[("host", "shop.example")], pairs].concat()), true);
        for ours in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://shop.example")],
            &[("origin", "https://SHOP.example:443")],
        ] {
            assert_eq!(of(ours), Origin::Ours, "{ours:?}");
        }
        for others in [
            &[("sec-fetch-site", "same-site")][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "")],
            // What the browser says of itself is not undone by what a page may have had a hand in.
            &[("sec-fetch-site", "cross-site"), ("origin", "https://shop.example")],
            &[("origin", "https://evil.example")],
            &[("origin", "https://shop.example.evil.example")],
            &[("origin", "http://shop.example")],
            &[("origin", "https://shop.example:8443")],
            &[("origin", "null")],
        ] {
            assert_eq!(of(others), Origin::Others, "{others:?}");
        }
        assert_eq!(of(&[]), Origin::Unknown);
        assert_eq!(super::of(&headers(&[("origin", "https://")]), true), Origin::Others, "no host at all");
    }

    #[test]
    fn cookies_are_for_tls_unless_only_this_machine_can_be_meant() {
        let auto = |pairs: &[(&str, &str)]| is_secure(Secure::Auto, &headers(pairs));
        for plain in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(!auto(&[("host", plain)]), "{plain}");
            assert!(auto(&[("host", plain), ("x-forwarded-proto", "https")]), "{plain}");
            assert!(is_secure(Secure::Always, &headers(&[("host", plain)])));
        }
        assert!(auto(&[("host", "shop.example")]) && auto(&[]) && auto(&[("host", "localhost.evil.example")]));
        assert!(!is_secure(Secure::Never, &headers(&[("host", "shop.example")])));
    }

    #[test]
    fn reading_changes_nothing_but_a_socket_may() {
        for (method, upgrade, changes) in [
            (Method::GET, false, false),
            (Method::HEAD, false, false),
            (Method::GET, true, true),
            (Method::POST, false, true),
            (Method::DELETE, false, true),
            (Method::from_bytes(b"BREW").unwrap(), false, true),
        ] {
            let headers = if upgrade { headers(&[("upgrade", "websocket")]) } else { HeaderMap::new() };
            assert_eq!(may_change(&method, &headers), changes, "{method}");
        }
    }
}
