//! Who is who in one HTTP exchange: its trace and its `x-request-id`.
//! Invariant: both are echoed on every answer, so any answer leads to its log lines and effects.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;

use crate::trace::Trace;

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identity of one exchange.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// Our own span of the trace the client sent, or of a new one.
    pub(crate) trace: Trace,
    traceparent: HeaderValue,
    request_id: HeaderValue,
}

impl Exchange {
    /// Reads it from a request's headers. What is malformed is replaced, as the trace standard
    /// demands; a client's `x-request-id` is kept if it is 1 to 128 visible ASCII characters.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(&TRACEPARENT).and_then(|value| Trace::parse(value.to_str().ok()?));
        let trace = sent.map_or_else(Trace::start, Trace::child);
        let text = Bytes::from(trace.to_string());
        let given = headers.get(&X_REQUEST_ID).filter(|id| is_id(id.as_bytes())).cloned();
        // Without an id of the client the trace id serves: bytes 3 to 35 of `00-{trace}-…`.
        let request_id = given.unwrap_or_else(|| shared(text.slice(3..35)));
        Self { trace, traceparent: shared(text), request_id }
    }

    /// The `x-request-id`, for logs.
    pub(crate) fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The headers every answer carries.
    pub(crate) fn headers(self) -> [(HeaderName, HeaderValue); 2] {
        [(TRACEPARENT.clone(), self.traceparent), (X_REQUEST_ID.clone(), self.request_id)]
    }
}

fn is_id(bytes: &[u8]) -> bool {
    (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// A header value on shared bytes; they are hexadecimal digits and dashes, which always fit.
fn shared(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(name: &HeaderName, value: &[u8]) -> Exchange {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_bytes(value).unwrap());
        Exchange::of(&headers)
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_ours() {
        let sent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let exchange = with(&TRACEPARENT, sent.as_bytes());
        assert_eq!(exchange.trace.id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(exchange.traceparent, sent);
        assert_eq!(exchange.id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(with(&X_REQUEST_ID, b"mine").id(), "mine");
    }

    proptest! {
        #[test]
        fn whatever_is_sent_the_answer_has_an_id_and_a_trace(bytes in "[\\x20-\\x7e]{0,200}") {
            for name in [&TRACEPARENT, &X_REQUEST_ID] {
                let exchange = with(name, bytes.as_bytes());
                prop_assert!(is_id(exchange.id().as_bytes()));
                prop_assert_eq!(Trace::parse(exchange.traceparent.to_str().unwrap()), Some(exchange.trace));
            }
        }
    }
}
