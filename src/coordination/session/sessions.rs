//! The sessions of a store, as a node holds them: for code outside of a request, and what requests are
//! made of. Invariant: times come from the node's clock, and none goes beyond a session's absolute end.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderMap;
use serde::Serialize;

use super::{
    id::{Id, random},
    keys::Keys,
    settings::Settings,
};
use crate::{
    backend::{
        Backend,
        sessions::{
            ChangedSession, DRAWERS, Former, FoundSession, Issued, OpenedSession, SessionKey, SessionName,
            SessionRecord, Use, drawer_of,
        },
    },
    clock::Clock,
    error::{Error, Result},
    gateway::cookies,
    metrics::Metrics,
};

/// A handle on all sessions. Cheap to clone, usable from any thread.
///
/// ```
/// # use greenroom::prelude::*;
/// # let dir = tempfile::tempdir()?;
/// App::embedded(dir.path()).run_until(|node| async move {
///     for session in node.sessions().list("ann").await? {
///         println!("{} since {}, by {}", session.id, session.created, session.agent);
///     }
///     // The password was changed, the phone was lost, …
///     node.sessions().revoke_all("ann").await?;
///     Ok(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    clock: Clock,
    metrics: Metrics,
    settings: Settings,
    keys: Keys,
    /// The cookie's name where it is for TLS only.
    host_cookie: String,
}

/// A session, as its user may see it. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// What it is called, to revoke it. No secret, and the same through all rotations.
    pub id: SessionName,
    /// When it was opened: its login.
    pub created: i64,
    /// When it was used last, within a tenth of `session.idle`.
    pub seen: i64,
    /// When it ends unless it is used.
    pub until: i64,
    /// What the client says of itself: the beginning of its `User-Agent`.
    pub agent: String,
}

impl Sessions {
    pub(crate) fn new(backend: Arc<dyn Backend>, clock: Clock, metrics: Metrics, settings: Settings) -> Self {
        let keys = Keys::new(&settings, &backend.secret());
        let host_cookie = format!("__Host-{}", settings.cookie);
        Self { inner: Arc::new(Inner { backend, clock, metrics, settings, keys, host_cookie }) }
    }

    /// The sessions of a user, in the order they were opened.
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>> {
        let found = self.inner.backend.sessions_of(named(user)?, self.now()).await?;
        Ok(found.into_iter().map(|(id, record)| info(id, record)).collect())
    }

    /// Ends one session of a user; `false` when there is none of that name.
    pub async fn revoke(&self, user: &str, id: SessionName) -> Result<bool> {
        let key = SessionKey { drawer: drawer_of(user), name: id };
        let ended = self.inner.backend.end_session(key, Some(named(user)?), 0, self.now()).await?.is_some();
        self.count("revoked", usize::from(ended));
        Ok(ended)
    }

    /// Ends all sessions of a user at once, those that are being opened by a login under the present
    /// [`Era`](super::Era) too; answers how many there were.
    pub async fn revoke_all(&self, user: &str) -> Result<usize> {
        self.revoke_but(user, None).await
    }

    /// Whether a session is live and still this user's: for what outlives the request that it came with.
    pub async fn is_live(&self, user: &str, id: SessionName) -> Result<bool> {
        let key = SessionKey { drawer: drawer_of(user), name: id };
        let found = self.inner.backend.session(key, self.now()).await?;
        Ok(matches!(found, FoundSession::Live(record) if record.user.as_deref() == Some(user)))
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(super) async fn revoke_but(&self, user: &str, but: Option<SessionName>) -> Result<usize> {
        let ended = self.inner.backend.end_sessions(named(user)?, but, self.now()).await?;
        self.count("revoked", ended);
        Ok(ended)
    }

    pub(super) async fn era(&self, user: &str) -> Result<i64> {
        self.inner.backend.session_era(named(user)?).await
    }

    pub(super) fn now(&self) -> i64 {
        self.inner.clock.now()
    }

    pub(super) fn count(&self, event: &'static str, times: usize) {
        if times > 0 {
            self.inner.metrics.sessions(event, times as u64);
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// The name of the cookie.
    pub(super) fn cookie(&self, secure: bool) -> &str {
        if secure { &self.inner.host_cookie } else { &self.inner.settings.cookie }
    }

    /// The id that a request shows. A cookie that we did not sign is none.
    pub(super) fn shown(&self, headers: &HeaderMap, secure: bool) -> Option<Id> {
        /// More than that nobody has who did not plant them.
        const MOST: usize = 4;
        let mut forged = 0;
        let id = cookies::shown(headers, self.cookie(secure)).take(MOST).find_map(|value| {
            let id = self.inner.keys.open(value);
            forged += usize::from(id.is_none());
            id
        });
        self.count("forged", forged);
        id
    }

    pub(super) async fn find(&self, key: SessionKey) -> Result<FoundSession> {
        self.inner.backend.session(key, self.now()).await
    }

    /// Opens a session; `None` when the era that was named is over.
    pub(super) async fn open(
        &self,
        id: &Id,
        user: Option<&str>,
        data: Vec<u8>,
        agent: &str,
        era: Option<i64>,
    ) -> Result<Option<SessionRecord>> {
        let Settings { absolute, per_user, anonymous, .. } = &self.inner.settings;
        let now = self.now();
        let ends = now.saturating_add(millis(*absolute));
        let record = SessionRecord {
            user: user.map(named).transpose()?,
            created: now,
            seen: now,
            until: self.used(now, ends).until,
            ends,
            rev: 1,
            agent: agent.to_owned(),
            data,
            issued: Issued { digest: id.digest(), at: now, former: None },
        };
        let most = user.map_or_else(|| anonymous.div_ceil(usize::from(DRAWERS)), |_| *per_user);
        Ok(match self.inner.backend.open_session(id.key, record.clone(), most, era).await? {
            OpenedSession::Opened(evicted) => {
                self.count("opened", 1);
                self.count("evicted", evicted);
                Some(record)
            }
            OpenedSession::Revoked => None,
        })
    }

    pub(super) async fn write(&self, key: SessionKey, record: &SessionRecord, data: Vec<u8>) -> Result<ChangedSession> {
        let used = self.used(self.now(), record.ends);
        self.inner.backend.write_session(key, record.rev, data, used).await
    }

    /// Notes that it is used, if that has not been for a tenth of the time in which it would end: so
    /// reading does not become writing.
    pub(super) async fn touch(&self, key: SessionKey, record: &SessionRecord) -> Result<()> {
        let now = self.now();
        if now.saturating_sub(record.seen) > millis(self.inner.settings.idle) / 10 {
            self.inner.backend.touch_session(key, self.used(now, record.ends)).await?;
        }
        Ok(())
    }

    /// Whether its secret is old.
    pub(super) fn is_stale(&self, record: &SessionRecord) -> bool {
        self.now().saturating_sub(record.issued.at) >= millis(self.inner.settings.rotate)
    }

    /// Whether something happened so recently that requests may still be on their way who do not know.
    pub(super) fn was_just(&self, at: i64) -> bool {
        self.now().saturating_sub(at) < millis(self.inner.settings.grace)
    }

    /// Gives it another secret: one that follows on the present one, which stays good for its grace, or
    /// at once and for good.
    pub(super) async fn renew(&self, id: &Id, record: &SessionRecord, grace: bool) -> Result<(Id, ChangedSession)> {
        let now = self.now();
        let nonce = random();
        let new = if grace { self.inner.keys.renewed(id, &nonce) } else { id.with(random()) };
        let until = now.saturating_add(millis(self.inner.settings.grace));
        let former = grace.then(|| Former { digest: id.digest(), nonce, until });
        let issued = Issued { digest: new.digest(), at: now, former };
        let used = self.used(now, record.ends);
        let changed = self.inner.backend.renew_session(id.key, record.issued.digest, issued, used).await?;
        self.count("renewed", usize::from(changed == ChangedSession::Changed));
        Ok((new, changed))
    }

    /// Ends it; its cookie is remembered as given up for a moment. Answers how it was.
    pub(super) async fn end(&self, key: SessionKey) -> Result<Option<SessionRecord>> {
        let mark = millis(self.inner.settings.grace);
        let ended = self.inner.backend.end_session(key, None, mark, self.now()).await?;
        self.count("ended", usize::from(ended.is_some()));
        Ok(ended)
    }

    fn used(&self, now: i64, ends: i64) -> Use {
        Use { now, until: now.saturating_add(millis(self.inner.settings.idle)).min(ends) }
    }
}

pub(super) fn info(id: SessionName, record: SessionRecord) -> SessionInfo {
    let SessionRecord { created, seen, until, agent, .. } = record;
    SessionInfo { id, created, seen, until, agent }
}

/// What names a user. Terminal error when it cannot.
fn named(user: &str) -> Result<String> {
    if (1..=256).contains(&user.len()) && !user.chars().any(char::is_control) {
        return Ok(user.to_owned());
    }
    let error = format!("{user:?} names no user: expected 1 to 256 bytes without control characters");
    Err(Error::terminal(error).code("bad_user"))
}

fn millis(time: Duration) -> i64 {
    time.as_millis().min(i64::MAX as u128) as i64
}
