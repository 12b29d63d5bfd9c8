//! What a handler takes from a request, each refused with a problem when it is not right.
//! Invariant: a handler that runs has only checked values, and a body within the limit.

use std::{future::Future, future::Ready, future::ready, ops::Deref, pin::Pin};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{self, HeaderMap, HeaderValue},
    web::{Bytes, BytesMut, Path},
};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use super::{
    decode::{self, Checked},
    idempotency,
    problem::{Place, Problem},
    problems::{BODY_TOO_LARGE, MALFORMED_BODY, MALFORMED_PATH, SLOW_CLIENT, UNSUPPORTED_MEDIA_TYPE},
    shared::Shared,
};
use crate::runtime::node::Node;

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// A JSON body that passed its own validation.
///
/// Refused with 415 when it is no JSON by its `Content-Type`, 413 when too large, 408 when too
/// slow, 400 when malformed, 422 naming the fields when it does not hold what it must.
#[derive(Debug)]
pub struct Valid<T>(pub T);

/// A query string that passed its own validation; refused with 400 naming the parameter.
#[derive(Debug)]
pub struct ValidQuery<T>(pub T);

/// Parameters of the path; refused with 400 when they do not parse.
#[derive(Debug)]
pub struct ValidPath<T>(pub T);

/// A body to the byte, within the limit: for signatures and uploads.
#[derive(Debug)]
pub struct Raw(pub Bytes);

macro_rules! derefs {
    ($($name:ident),*) => {$(
        impl<T> Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }
    )*};
}
derefs!(Valid, ValidQuery, ValidPath);

impl<T: Checked + 'static> FromRequest for Valid<T> {
    type Error = Problem;
    type Future = Boxed<Self>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if let Err(problem) = is_plain_json(req.headers()) {
            return Box::pin(ready(Err(problem)));
        }
        let (req, payload) = (req.clone(), payload.take());
        Box::pin(async move { decode::body(&read(&req, payload).await?).map(Self) })
    }
}

impl FromRequest for Raw {
    type Error = Problem;
    type Future = Boxed<Self>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (req, payload) = (req.clone(), payload.take());
        Box::pin(async move { read(&req, payload).await.map(Self) })
    }
}

impl<T: Checked> FromRequest for ValidQuery<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(decode::query(req.query_string()).map(Self))
    }
}

impl<T: DeserializeOwned> FromRequest for ValidPath<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(match Path::<T>::from_request(req, payload).into_inner() {
            Ok(path) => Ok(Self(path.into_inner())),
            Err(error) => {
                let names: Vec<&str> = req.match_info().iter().map(|(name, _)| name).collect();
                Err(Problem::of(&MALFORMED_PATH).fault(Place::Parameter(names.join(", ")), error.to_string()))
            }
        })
    }
}

/// The node itself, for controllers that read state.
impl FromRequest for Node {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Shared::of(req).map(|shared| shared.node.clone()))
    }
}

/// Refuses a body that is not JSON by its headers, or is compressed.
pub(super) fn is_plain_json(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        let plain = HeaderValue::from_static("identity");
        return Err(Problem::of(&UNSUPPORTED_MEDIA_TYPE)
            .detail("A compressed body is not taken.")
            .header(header::ACCEPT_ENCODING, plain));
    }
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let suffix = kind.len().checked_sub(5).and_then(|at| kind.get(at..)).unwrap_or_default();
    if kind.eq_ignore_ascii_case(b"application/json")
        || (suffix.eq_ignore_ascii_case(b"+json")
            && kind.len() > 17
            && kind[..12].eq_ignore_ascii_case(b"application/"))
    {
        return Ok(());
    }
    let accept = HeaderValue::from_static("application/json");
    Err(Problem::of(&UNSUPPORTED_MEDIA_TYPE).header(header::ACCEPT, accept))
}

/// Reads the whole body within the limits of size and time.
async fn read(req: &HttpRequest, payload: Payload) -> Result<Bytes, Problem> {
    let settings = &Shared::of(req)?.settings;
    let length = req.headers().get(header::CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > settings.body_bytes) {
        return Err(too_large(settings.body_bytes));
    }
    let body = tokio::time::timeout(settings.body_timeout, collect(payload, settings.body_bytes)).await;
    let body = body.unwrap_or_else(|_| Err(Problem::of(&SLOW_CLIENT)))?;
    idempotency::remember_body(req, &body);
    Ok(body)
}

async fn collect(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(broken)?;
    // A small body comes in one piece and is used where it lies.
    let Some(second) = payload.next().await else {
        return if first.len() > limit { Err(too_large(limit)) } else { Ok(first) };
    };
    let mut whole = BytesMut::with_capacity((first.len() * 2).min(limit));
    let mut piece = Some(Ok(first));
    let mut following = Some(second);
    while let Some(next) = piece {
        let next = next.map_err(broken)?;
        if whole.len() + next.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&next);
        piece = match following.take() {
            Some(second) => Some(second),
            None => payload.next().await,
        };
    }
    Ok(whole.freeze())
}

fn too_large(limit: usize) -> Problem {
    Problem::of(&BODY_TOO_LARGE).detail(format!("The limit is {limit} bytes."))
}

fn broken(error: PayloadError) -> Problem {
    Problem::of(&MALFORMED_BODY).detail(format!("The body could not be read: {error}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_json_is_taken() {
        let status = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            is_plain_json(&headers).err().map(|problem| problem.status())
        };
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/x.y+json"]
        {
            assert_eq!(status(good), None, "{good}");
        }
        for bad in ["", "text/plain", "application/jsonx", "application/+json", "multipart/form-data", "+json"] {
            assert_eq!(status(bad), Some(415), "{bad}");
        }
    }
}
