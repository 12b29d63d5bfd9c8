//! Which pages may open a WebSocket: a browser sends cookies with one whatever page opens it, and no rule
//! of its own keeps that page from reading. Invariant: a page of another origin needs to be configured, in
//! `gateway.cors_origins`, as for any other call.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderValue},
};

use crate::gateway::{problem::Problem, problems::ORIGIN_REFUSED};

/// Refuses a page that may not. Programs send no `Origin`.
pub(super) fn check(req: &HttpRequest, allowed: &[String]) -> Result<(), Problem> {
    let text = |name| req.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    // Whether a proxy in front speaks TLS is not known here, so the scheme of our own pages is not compared.
    let (_, host) = origin.split_once("://").unwrap_or_default();
    let same = !host.is_empty() && text(header::HOST).is_some_and(|own| own.eq_ignore_ascii_case(host));
    if same || allowed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin)) {
        return Ok(());
    }
    Err(Problem::of(&ORIGIN_REFUSED).detail(format!("Pages of {origin:?} may not open WebSockets here.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn only_our_own_pages_and_those_configured_may() {
        let check = |origin: Option<&str>, allowed: &[&str]| {
            let mut req = TestRequest::get().insert_header((header::HOST, "shop.example:8080"));
            if let Some(origin) = origin {
                req = req.insert_header((header::ORIGIN, origin));
            }
            let allowed: Vec<String> = allowed.iter().map(|one| (*one).to_owned()).collect();
            super::check(&req.to_http_request(), &allowed).is_ok()
        };
        assert!(check(None, &[]) && check(Some("https://shop.example:8080"), &[]));
        for other in ["https://evil.example", "https://shop.example", "null", "", "shop.example:8080"] {
            assert!(!check(Some(other), &[]), "{other}");
        }
        assert!(check(Some("https://app.example"), &["https://app.example"]));
        assert!(!check(Some("https://app.example.evil"), &["https://app.example"]));
        assert!(check(Some("null"), &["*"]));
    }
}
