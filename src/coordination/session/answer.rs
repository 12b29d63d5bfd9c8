//! What becomes of a session when its request was handled: changes are written, it is noted as used, its
//! secret is replaced when that is old, and the answer gets the cookie.
//! Invariant: an answer that was sent means that what its handler changed is stored.

use actix_web::{
    HttpMessage,
    body::BoxBody,
    dev::ServiceResponse,
    http::header::{self, HeaderValue},
};

use super::{
    data::Changes,
    id::Id,
    login::TRIES,
    request::{Cookie, Held, Live, Session, replaced},
};
use crate::{
    backend::sessions::ChangedSession,
    gateway::{Problem, cookies, problems},
};

/// Settles the session of a request that was handled, if its handler took one.
pub(crate) async fn settled(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let session = response.request().extensions_mut().remove::<Session>();
    let Some(session) = session else { return response };
    let settled = session.settle().await;
    session.answer();
    let mut response = match settled {
        Ok(()) => response,
        Err(problem) => response.into_response(problem.respond(None)),
    };
    if let Some(cookie) = session.header() {
        let headers = response.headers_mut();
        headers.append(header::SET_COOKIE, cookie);
        if !headers.contains_key(header::CACHE_CONTROL) {
            // Nobody else is to get this answer out of a cache.
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    response
}

impl Session {
    async fn settle(&self) -> Result<(), Problem> {
        let data = self.data()?;
        match self.held() {
            // What is as it was need not be written.
            Held::Live(live) if data == live.data => self.keep(&live).await,
            Held::Live(live) => {
                self.write(&live, &self.changes()).await?;
                if self.sessions().is_stale(&live.record) {
                    self.renew(&live).await;
                }
            }
            _ if data.is_empty() => {}
            Held::Replaced => return Err(replaced()),
            Held::Nothing => {
                let id = Id::new(None);
                self.sessions().open(&id, None, self.encode(&data)?, self.agent(), None).await?;
                self.say(Cookie::Set(id));
            }
        }
        Ok(())
    }

    /// Notes that it was used. A request does not fail for that.
    async fn keep(&self, live: &Live) {
        if self.sessions().is_stale(&live.record) {
            return self.renew(live).await;
        }
        if let Err(error) = self.sessions().touch(live.id.key, &live.record).await {
            tracing::warn!(%error, "it could not be noted that a session is used");
        }
    }

    /// Replaces a secret that is old. Whoever does so at the same time is told the same one.
    async fn renew(&self, live: &Live) {
        match self.sessions().renew(&live.id, &live.record, true).await {
            Ok((id, ChangedSession::Changed)) => self.say(Cookie::Set(id)),
            Ok((_, ChangedSession::Conflict(now))) => {
                if let Some(former) = now.issued.former.filter(|former| former.digest == live.id.digest()) {
                    self.say(Cookie::Set(self.sessions().keys().renewed(&live.id, &former.nonce)));
                }
            }
            Ok((_, ChangedSession::Gone)) => {}
            Err(error) => tracing::warn!(%error, "the secret of a session could not be replaced"),
        }
    }

    /// Writes what was changed, on top of what others have written meanwhile.
    async fn write(&self, live: &Live, changes: &Changes) -> Result<(), Problem> {
        let (mut record, mut data) = (live.record.clone(), live.data.clone());
        for _ in 0..TRIES {
            let bytes = self.encode(&changes.on(&data)?)?;
            match self.sessions().write(live.id.key, &record, bytes).await? {
                ChangedSession::Changed => return Ok(()),
                ChangedSession::Gone => return Err(replaced()),
                ChangedSession::Conflict(now) => {
                    let now = Live::new(live.id, now)?;
                    self.sessions().count("conflict", 1);
                    if let Some(key) = changes.conflict(&live.data, &now.data) {
                        return Err(Problem::of(&problems::SESSION_CONFLICT).with("key", key));
                    }
                    (record, data) = (now.record.clone(), now.data.clone());
                }
            }
        }
        Err(Problem::of(&problems::SESSION_CONFLICT))
    }

    /// What the answer says of the cookie.
    fn header(&self) -> Option<HeaderValue> {
        let name = self.sessions().cookie(self.secure());
        match self.cookie()? {
            Cookie::Set(id) => cookies::set(name, &self.sessions().keys().seal(&id), self.secure()),
            Cookie::Clear => cookies::clear(name, self.secure()),
        }
    }
}
