//! Every error answer, as `application/problem+json` (RFC 9457).
//! Invariant: nothing internal is ever in one; what an operator needs is logged instead.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::problems::{self, Class};
use crate::error::Error;

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Members that the standard gives a meaning.
const STANDARD: [&str; 6] = ["type", "title", "status", "detail", "instance", "errors"];

/// An error answer. Handlers return it as their error; the gateway adds where it happened.
///
/// ```
/// use greenroom::gateway::Problem;
/// let problem = Problem::conflict("The order is paid already.").with("order", "o-7");
/// assert_eq!(problem.status(), 409);
/// ```
pub struct Problem(Box<Inner>);

struct Inner {
    class: Option<&'static Class>,
    status: StatusCode,
    detail: Option<String>,
    instance: Option<String>,
    errors: Vec<Fault>,
    members: Map<String, Value>,
    headers: HeaderMap,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub struct Fault {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong with it.
    pub reason: String,
}

/// Where a fault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the body, as a JSON pointer (RFC 6901).
    Pointer(String),
    /// In a parameter of the path or the query.
    Parameter(String),
    /// In a header.
    Header(String),
}

impl Problem {
    /// A problem that says no more than its status (`about:blank`).
    pub fn new(status: u16) -> Self {
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Inner {
            class: None,
            status,
            detail: None,
            instance: None,
            errors: Vec::new(),
            members: Map::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// A problem of a known class.
    pub fn of(class: &'static Class) -> Self {
        let mut problem = Self::new(class.status);
        problem.0.class = Some(class);
        problem
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::of(&problems::NOT_FOUND).detail(detail)
    }

    /// 409: it cannot be done as things stand.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409).detail(detail)
    }

    /// 422: the value at the JSON pointer cannot be accepted.
    pub fn invalid(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::of(&problems::INVALID).fault(Place::Pointer(pointer.into()), reason)
    }

    /// 500, with the reason in the log only.
    pub fn internal(doing: &str, reason: &dyn fmt::Display) -> Self {
        tracing::error!(doing, %reason, "a request could not be answered");
        Self::of(&problems::INTERNAL)
    }

    /// 503, with the reason in the log only.
    pub fn unavailable(doing: &str, reason: &dyn fmt::Display) -> Self {
        tracing::warn!(doing, %reason, "a request cannot be served now");
        Self::of(&problems::UNAVAILABLE).retry_after(Duration::from_secs(1))
    }

    /// Says what is the matter this time, for people.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds one thing that is wrong.
    pub fn fault(mut self, place: Place, reason: impl Into<String>) -> Self {
        self.0.errors.push(Fault { place, reason: reason.into() });
        self
    }

    /// Adds a member of its own, for machines. One that cannot be JSON, or has a name of the
    /// standard, is left out.
    pub fn with(self, name: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => self.with_all(Map::from_iter([(name.to_owned(), value)])),
            Err(_) => self,
        }
    }

    /// Adds every member of an object, as [`Problem::with`] does.
    pub fn with_all(mut self, members: Map<String, Value>) -> Self {
        self.0.members.extend(members.into_iter().filter(|(name, _)| !STANDARD.contains(&name.as_str())));
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// Says when to try again, in whole seconds rounded up, at least one.
    pub fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1000).clamp(1, 86_400) as u64;
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Says where it happened.
    pub(crate) fn at(mut self, path: &str) -> Self {
        self.0.instance = Some(path.to_owned());
        self
    }

    /// The status it is answered with.
    pub fn status(&self) -> u16 {
        self.0.status.as_u16()
    }

    /// The answer, with the path it happened at.
    pub(crate) fn respond(&self, instance: Option<&str>) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        for (name, value) in &self.0.headers {
            response.append_header((name.clone(), value.clone()));
        }
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE)));
        response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
        response.body(self.text(instance))
    }

    /// The body alone.
    pub(crate) fn text(&self, instance: Option<&str>) -> String {
        let inner = &*self.0;
        let class = inner.class.map(|class| format!("/problems/{}", class.name));
        let body = Body {
            class: class.as_deref().unwrap_or("about:blank"),
            title: inner.class.map_or_else(|| inner.status.canonical_reason().unwrap_or("Error"), |class| class.title),
            status: inner.status.as_u16(),
            detail: inner.detail.as_deref(),
            instance: instance.or(inner.instance.as_deref()),
            errors: &inner.errors,
            members: &inner.members,
        };
        // Strings, numbers and maps with text keys always encode.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// Member names are those of RFC 9457; ours come after.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    class: &'a str,
    title: &'a str,
    #[serde(rename = "status")]
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.respond(None)
    }
}

/// What an actor or the store refused: for good (422, with its words), or for now (503, without).
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if error.is_terminal() {
            let code = error.failure(0, 0).code;
            if code == "bad_cursor" {
                let place = Place::Parameter("cursor".to_owned());
                return Self::of(&problems::MALFORMED_QUERY).fault(place, error.to_string());
            }
            Self::of(&problems::FAILED).detail(error.to_string()).with("code", code)
        } else {
            let wait = error.wait().unwrap_or(Duration::from_secs(1));
            tracing::warn!(reason = %error, "a request cannot be served now");
            Self::of(&problems::UNAVAILABLE).retry_after(wait)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(None))
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_the_standard_says() {
        let problem = Problem::invalid("/lines/0/quantity", "not below 1").with("order", 7).with("status", "paid");
        assert_eq!(
            problem.text(Some("/orders")),
            r#"{"type":"/problems/invalid","title":"The request does not hold what it must","status":422,"instance":"/orders","errors":[{"pointer":"/lines/0/quantity","reason":"not below 1"}],"order":7}"#
        );
        assert_eq!(Problem::new(409).text(None), r#"{"type":"about:blank","title":"Conflict","status":409}"#);
        assert_eq!(Problem::new(200).status(), 500);
    }

    #[test]
    fn an_error_that_may_pass_tells_nothing_of_its_cause() {
        let passing: Problem = Error::new("disk /var/x is full").into();
        assert_eq!(passing.status(), 503);
        assert!(!passing.to_string().contains("/var"));
        let lasting: Problem = Error::terminal("already paid").code("already_paid").into();
        assert!(lasting.to_string().contains("already paid") && lasting.to_string().contains("already_paid"));
    }

    #[test]
    fn a_wait_is_never_rounded_to_nothing() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_001, "2")] {
            let response = Problem::new(503).retry_after(Duration::from_millis(millis)).respond(None);
            assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), seconds);
        }
    }
}
