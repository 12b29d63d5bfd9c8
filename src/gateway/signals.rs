//! Completing a signal that a command waits for, from outside: a vendor's webhook, a link in an e-mail.
//! Invariant: a signal is answered with `202` only once it is as durable as a command would be.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap, HeaderValue},
    post, web,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    accepted,
    decode::malformed,
    extract::{Raw, is_plain_json},
    idempotency::{IDEMPOTENCY_REPLAYED, Key},
    intake::refused,
    problem::Problem,
    problems::ENDED,
    requests::here,
    schemas::SignalView,
    shared::Shared,
};
use crate::runtime::outside::{MAX_SIGNAL, SignalId, Signalled};

/// Completes a signal that a command waits for, or will wait for.
///
/// Like looking at a request, this needs no token: whoever knows the id, which cannot be guessed, may
/// complete it. The body is the value, any JSON; none at all is `null`. Of several values under one
/// name each is taken once, in order.
#[utoipa::path(
    tag = "requests",
    params(
        ("id" = String, Path, description = "What `cx.signal_id(name)` answered, escaped as a part of a path: a request id, a dot, and the name",
            example = "018f2c9e-7b1d-8c3a-9d52-0b6c1f7a2e44.approval"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$",
            description = "A repeat with the same key happens once and gets the first answer, as long as the command has not ended"),
    ),
    request_body(content = Option<Value>, content_type = "application/json", description = "The value"),
    responses(
        (status = 202, description = "The command will get it, after any crash too", body = SignalView,
            headers(("Location" = String, description = "The request that waits: `/requests/{id}`"))),
        (status = 404, description = "There was never such a request, or that is no signal id"),
        (status = 409, description = "It has ended and takes no signals; the members of the request say how"),
        (status = 410, description = "It ended longer ago than results are kept"),
        (status = 422, description = "The `Idempotency-Key` was used for something else"),
        (status = 429, description = "The mailbox is full; `Retry-After` says when to try again"),
    )
)]
#[post("/signals/{id}")]
pub(crate) async fn complete(req: HttpRequest, id: web::Path<String>, body: Raw) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(&req)?;
    let id: SignalId = id.parse().map_err(|_| unknown())?;
    let key = Key::of(&req)?;
    let value = value(req.headers(), &body.0)?;
    let request = id.request;
    let answer = json!({ "request": request, "signal": id.name, "links": { "self": format!("/requests/{request}") } });
    let idempotency = key.map(|key| key.stored(&req, answer.to_string(), shared));
    let signalled = shared.node.signal(&id, value, idempotency).await.map_err(refused)?;
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response.insert_header((header::LOCATION, format!("/requests/{request}")));
    match signalled {
        Signalled::Taken => Ok(response.json(answer)),
        Signalled::Seen(first) => {
            response.insert_header((IDEMPOTENCY_REPLAYED.clone(), HeaderValue::from_static("true")));
            Ok(response.content_type("application/json").body(first))
        }
        Signalled::Refused(found) => Err(Problem::of(&ENDED).with_all(accepted::members(&here(found)?))),
    }
}

/// The value of a signal: JSON that any handler can read, or nothing.
fn value(headers: &HeaderMap, body: &[u8]) -> Result<Box<RawValue>, Problem> {
    if body.is_empty() {
        return Ok(RawValue::NULL.to_owned());
    }
    is_plain_json(headers)?;
    // What is nested too deep, or has half a character, would only be refused when the handler reads it.
    let value: Value = serde_json::from_slice(body).map_err(|error| malformed(body, &error))?;
    serde_json::from_slice(body).or_else(|_| to_raw_value(&value)).map_err(|error| malformed(body, &error))
}

fn unknown() -> Problem {
    Problem::not_found(format!(
        "There is no such signal. Expected what cx.signal_id(name) answers: a request id, a dot, and a name of 1 to {MAX_SIGNAL} bytes."
    ))
}
