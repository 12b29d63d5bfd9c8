//! Compression of answers, where it pays: large, whole, and text.
//! Invariant: a stream is never held back by a compressor.

use actix_http::encoding::Encoder;
use actix_web::{
    HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    http::header::{self, ContentEncoding, HeaderMap, HeaderValue},
};

/// Below this an answer fits a packet or two, and compressing costs more than it saves.
const WORTH: u64 = 1_400;

/// Compresses the answer if it pays and the client takes gzip.
pub(crate) fn apply(request: &HeaderMap, mut response: HttpResponse) -> HttpResponse {
    let large = matches!(response.body().size(), BodySize::Sized(size) if size >= WORTH);
    if !large || !is_text(response.headers()) || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    // A cache must know that the answer depends on it, whichever was sent.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let takes = request.get_all(header::ACCEPT_ENCODING).filter_map(|accept| accept.to_str().ok()).any(takes_gzip);
    if !takes {
        return response;
    }
    response.map_body(|head, body: BoxBody| Encoder::response(ContentEncoding::Gzip, head, body).boxed())
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    (kind.starts_with("text/") && kind != "text/event-stream")
        || kind.ends_with("json")
        || kind.ends_with("javascript")
        || kind.ends_with("openmetrics-text")
        || kind == "image/svg+xml"
}

/// Whether an `Accept-Encoding` field takes gzip.
fn takes_gzip(field: &str) -> bool {
    field.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .or(part.strip_prefix("Q="))
                .is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
        });
        gzip && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_by_name_unless_refused() {
        assert!(takes_gzip("gzip") && takes_gzip("br, GZIP;q=0.5") && takes_gzip("*"));
        assert!(!takes_gzip("") && !takes_gzip("br") && !takes_gzip("gzip;q=0") && !takes_gzip("gzip; q=0.0"));
    }

    #[test]
    fn small_answers_and_binary_ones_are_left_alone() {
        let mut takes = HeaderMap::new();
        takes.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let encoded = |kind: &'static str, size: usize| {
            let response = HttpResponse::Ok().content_type(kind).body("x".repeat(size));
            apply(&takes, response).headers().contains_key(header::CONTENT_ENCODING)
        };
        assert!(encoded("application/json", 5_000) && encoded("text/html; charset=utf-8", 5_000));
        assert!(!encoded("application/json", 100) && !encoded("image/png", 5_000));
        assert!(!encoded("text/event-stream", 5_000));
    }
}
