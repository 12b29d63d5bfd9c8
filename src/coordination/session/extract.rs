//! How a handler gets the session of its request: by taking a [`Session`], or a [`LoggedIn`] where only
//! users may come. Invariant: however many a handler takes, they are one.

use std::{future::Future, future::ready, ops::Deref, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap, HeaderValue},
};
use subtle::ConstantTimeEq;

use super::{
    id::Id,
    origin::{self, Origin},
    request::{Cookie, Held, Live, Session},
    sessions::Sessions,
};
use crate::{
    backend::sessions::{FoundSession, SessionRecord},
    gateway::{Problem, problems},
    runtime::node::Node,
};

type Boxed<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

/// How much of a `User-Agent` is kept, in bytes.
const AGENT: usize = 120;

impl FromRequest for Session {
    type Error = Problem;
    type Future = Boxed<Self>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        if let Some(session) = taken(req) {
            return Box::pin(ready(Ok(session)));
        }
        let req = req.clone();
        Box::pin(async move { take(&req).await })
    }
}

/// The session of a user: without a login a request is refused with `401`.
#[derive(Clone)]
pub struct LoggedIn {
    session: Session,
    user: String,
}

impl LoggedIn {
    /// Whose it is.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl Deref for LoggedIn {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl FromRequest for LoggedIn {
    type Error = Problem;
    type Future = Boxed<Self>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let session = Session::from_request(req, payload);
        Box::pin(async move {
            let session = session.await?;
            match session.user() {
                Some(user) => Ok(Self { session, user }),
                None => {
                    let how = HeaderValue::from_static("Session realm=\"greenroom\"");
                    Err(Problem::of(&problems::NOT_LOGGED_IN).header(header::WWW_AUTHENTICATE, how))
                }
            }
        })
    }
}

fn taken(req: &HttpRequest) -> Option<Session> {
    req.extensions().get::<Session>().cloned()
}

async fn take(req: &HttpRequest) -> Result<Session, Problem> {
    let node = Node::extract(req).await?;
    let (sessions, headers) = (node.sessions(), req.headers());
    let secure = origin::is_secure(sessions.settings().secure, headers);
    let shown = sessions.shown(headers, secure);
    if origin::may_change(req.method(), headers) {
        from_here(sessions, headers, secure, shown.is_some())?;
    }
    let (held, cookie) = match shown {
        Some(id) => look(sessions, id).await?,
        None => (Held::Nothing, None),
    };
    // Another extractor may have been faster.
    Ok(taken(req).unwrap_or_else(|| {
        let session = Session::new(sessions.clone(), secure, agent(headers), held, cookie);
        req.extensions_mut().insert(session.clone());
        session
    }))
}

/// Refuses what other origins make a browser send. Without a session it may be no browser at all, but
/// nobody is to be logged in by somebody else's page either.
fn from_here(sessions: &Sessions, headers: &HeaderMap, secure: bool, has_session: bool) -> Result<(), Problem> {
    let why = match origin::of(headers, secure) {
        Origin::Others => "The request comes from a page of another origin.",
        Origin::Unknown if has_session => "The request has neither Sec-Fetch-Site nor Origin.",
        _ => return Ok(()),
    };
    sessions.count("cross_origin", 1);
    Err(Problem::of(&problems::CROSS_ORIGIN).detail(why))
}

/// What an id stands for, and what is to be said of the cookie.
async fn look(sessions: &Sessions, id: Id) -> Result<(Held, Option<Cookie>), Problem> {
    let record = match sessions.find(id.key).await? {
        FoundSession::Nothing => return Ok((Held::Nothing, None)),
        FoundSession::Replaced => return Ok((Held::Replaced, None)),
        FoundSession::Live(record) => record,
    };
    match present(sessions, id, &record) {
        Some(present) => {
            // In its grace, an id is told the one that follows on it.
            let cookie = (present != id).then_some(Cookie::Set(present));
            Ok((Held::Live(Live::new(present, record)?), cookie))
        }
        None => {
            // On its way while the secret was replaced for good, or kept for longer than a request takes.
            let just_now = sessions.was_just(record.issued.at);
            tracing::debug!(session = ?id, just_now, "a session was asked for with a secret that it had before");
            sessions.count("stale", usize::from(!just_now));
            Ok((if just_now { Held::Replaced } else { Held::Nothing }, None))
        }
    }
}

/// The present id of a session, if this one opens it.
fn present(sessions: &Sessions, id: Id, record: &SessionRecord) -> Option<Id> {
    let digest = id.digest();
    if bool::from(digest.ct_eq(&record.issued.digest)) {
        return Some(id);
    }
    let former = record.issued.former.filter(|former| former.until > sessions.now())?;
    bool::from(digest.ct_eq(&former.digest)).then(|| sessions.keys().renewed(&id, &former.nonce))
}

/// What the client says of itself, cut to what is kept.
fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    // Nothing but visible ASCII, so every index is between two characters.
    agent[..agent.len().min(AGENT)].to_owned()
}
