//! The kinds of problems the gateway itself answers with, and the page that explains each.
//! Invariant: a `type` that was ever sent stays here, because clients compare it.

use actix_web::{HttpResponse, get, web};

use super::problem::Problem;

/// A kind of problem: what its `type` says.
#[derive(Debug, PartialEq, Eq)]
pub struct Class {
    /// The last part of its URI, `/problems/{name}`.
    pub name: &'static str,
    /// The status it is answered with.
    pub status: u16,
    /// What it is, in one line.
    pub title: &'static str,
    /// What to do about it.
    pub help: &'static str,
}

macro_rules! classes {
    ($($id:ident = $name:literal $status:literal $title:literal: $help:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $title, ".")]
            pub static $id: Class = Class { name: $name, status: $status, title: $title, help: $help };
        )*

        /// All of them.
        pub static ALL: &[&Class] = &[$(&$id),*];
    };
}

classes! {
    MALFORMED_BODY = "malformed-body" 400 "The body is not JSON":
        "The detail names line and column. Nothing was accepted.";
    MALFORMED_QUERY = "malformed-query" 400 "The query cannot be used":
        "errors names the parameter and the reason.";
    MALFORMED_PATH = "malformed-path" 400 "The path cannot be used":
        "errors names the parameter and the reason.";
    MALFORMED_HEADER = "malformed-header" 400 "A header cannot be used":
        "errors names the header and the reason. Nothing was accepted.";
    UNAUTHORIZED = "unauthorized" 401 "The admin token is missing or wrong":
        "Send Authorization: Bearer with the token that the configuration calls admin_token.";
    NOT_LOGGED_IN = "not-logged-in" 401 "Nobody is logged in":
        "Log in. A session ends when nobody used it for some time, when it is old, and when it is revoked.";
    CROSS_ORIGIN = "cross-origin" 403 "The request does not come from our own pages":
        "What changes something under a session must show that it is from the same origin: browsers send Sec-Fetch-Site or Origin. Other clients send Origin with the scheme and host they talk to.";
    ADMIN_CLOSED = "admin-closed" 403 "Administration is closed to this caller":
        "Without an admin_token, /admin serves only direct callers on the loopback address. Configure an admin_token to use it from elsewhere.";
    ORIGIN_REFUSED = "origin-refused" 403 "Pages of this origin may not open WebSockets":
        "Add the origin to gateway.cors_origins, or serve the page from the API's own host.";
    NOT_FOUND = "not-found" 404 "There is no such thing":
        "Check the path. /docs lists what there is.";
    METHOD_NOT_ALLOWED = "method-not-allowed" 405 "The path does not take this method":
        "The Allow header lists the methods it takes.";
    SLOW_CLIENT = "slow-client" 408 "The body did not arrive in time":
        "Nothing was accepted. Send it again, faster or in smaller parts.";
    NOT_CANCELLED = "not-cancelled" 409 "The request cannot be cancelled any more":
        "What has not begun is cancelled, and what waits for something is told to end. The members of the request say how it stands.";
    CANCELLED = "cancelled" 409 "The request was cancelled":
        "It was accepted, and cancelled before it ran.";
    ENDED = "ended" 409 "The request has ended and takes no signals":
        "Nobody waits for the signal any more. The members of the request say how it stands.";
    SESSION_REPLACED = "session-replaced" 409 "The session was given up meanwhile":
        "Another request logged in or out, or the session was revoked, while this one was on its way. What it was to change in the session was not changed; send it again with the present cookie.";
    SESSION_CONFLICT = "session-conflict" 409 "Another request changed the same value of the session":
        "key names it. What this request was to change in the session was not changed; send it again.";
    LOGIN_REVOKED = "login-revoked" 409 "All sessions of the user were revoked during the login":
        "Nobody was logged in. Log in again.";
    LOCK_HELD = "lock-held" 409 "Somebody else has the lock":
        "Without a place in its queue, try again after the time in Retry-After; with one (queue: true), come back with the same id.";
    LOCK_LOST = "lock-lost" 409 "The lock is not yours":
        "It was never taken by this id, or was not renewed in time, or was taken away: somebody else may have it.";
    EXPIRED = "expired" 410 "The request ended longer ago than results are kept":
        "It did end, but how is no longer known.";
    LOST = "lost" 410 "The request was accepted and lost":
        "The server that held it lost what it had not synced to its disk. Whether it ran before is not known; look at its effect, and send it again.";
    FENCED = "fenced" 412 "The lock was lost":
        "A newer holder of the lock that Fencing-Token names has written here since. Nothing was accepted; take the lock again before anything else.";
    BODY_TOO_LARGE = "body-too-large" 413 "The body is too large":
        "The detail names the limit. Nothing was accepted.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type" 415 "The body must be plain JSON":
        "Send Content-Type: application/json and no Content-Encoding.";
    INVALID = "invalid" 422 "The request does not hold what it must":
        "errors names each field, as a JSON pointer, and the reason. Nothing was accepted.";
    KEY_REUSED = "idempotency-key-reused" 422 "The Idempotency-Key was used for another request":
        "A key stands for one request for ever: a repeat must be the same to the byte. Nothing was accepted; use a new key.";
    FAILED = "failed" 422 "The request failed":
        "It was accepted, ran, and was refused for good. The members of the request say why.";
    MAILBOX_FULL = "mailbox-full" 429 "The mailbox is full":
        "More waits than may wait. Nothing was accepted; send it again after the time in Retry-After.";
    QUOTA_EXCEEDED = "quota-exceeded" 429 "A limit is reached":
        "violated-policies names the limits, and the RateLimit fields say what is left of each. Nothing was accepted; send it again after the time in Retry-After.";
    HEAD_TOO_LARGE = "head-too-large" 431 "The target and headers are too large":
        "The detail names the limit.";
    INTERNAL = "internal" 500 "Something went wrong here":
        "It is logged under the id in x-request-id.";
    UNAVAILABLE = "unavailable" 503 "The service cannot do this now":
        "Send it again after the time in Retry-After, with the same Idempotency-Key if it had one.";
    NOT_READY = "not-ready" 503 "This node cannot accept durably":
        "It is draining, or its store cannot write; the detail says which. Another node may serve.";
    TIMED_OUT = "timed-out" 503 "The answer took too long":
        "What was asked may have been accepted all the same. Repeat it with the same Idempotency-Key to be sure.";
    TOO_MANY_CONNECTIONS = "too-many-connections" 503 "Too many live connections are open":
        "The detail says where. Connect again after the time in Retry-After.";
    TOO_MANY_STREAMS = "too-many-streams" 503 "Too many event streams are open":
        "Poll the request instead, or connect again after the time in Retry-After.";
}

/// Explains a kind of problem.
#[utoipa::path(
    tag = "about",
    params(("name" = String, Path, description = "The last part of a problem's type")),
    responses(
        (status = 200, description = "What it means and what to do", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such kind of problem"),
    )
)]
#[get("/problems/{name}")]
pub(crate) async fn explain(name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let class = ALL.iter().find(|class| class.name == name.as_str());
    let class = class.ok_or_else(|| Problem::of(&NOT_FOUND).detail("There is no kind of problem of that name."))?;
    let Class { name, status, title, help } = class;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .body(format!("{name} ({status})\n\n{title}.\n\n{help}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let names: std::collections::HashSet<_> = ALL.iter().map(|class| class.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|class| (400..600).contains(&class.status)));
    }
}
