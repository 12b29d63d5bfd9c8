//! Who somebody is: logging in and out, a new secret, revoking.
//!
//! Invariant: a login opens a new session under a new name and secret, and ends the one before, so
//! whoever planted or read that one has nothing (session fixation).

use std::rc::Rc;

use super::{
    id::Id,
    request::{Cookie, Held, Live, Session, replaced},
};
use crate::{
    backend::sessions::{ChangedSession, SessionRecord},
    error::Result,
    gateway::{Problem, problems},
};

/// How often something is tried again that somebody else came before in.
pub(super) const TRIES: usize = 16;

/// A time in the life of a user's account: it ends when all sessions of the user are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Era {
    user: String,
    number: i64,
}

impl Session {
    /// Makes it the session of a user, with the data it has: under a new id, and the one before is good
    /// for nothing from now on. Check who it is first.
    ///
    /// Should the sessions of the user be revoked between that check and this, this one is opened all the
    /// same: if a password that is being changed must not let anybody in, use [`Session::login_in`].
    ///
    /// # Errors
    /// When `user` is empty, longer than 256 bytes or has control characters; when the store does not
    /// answer.
    pub async fn login(&self, user: &str) -> Result<(), Problem> {
        self.enter(user, None).await
    }

    /// The present era of a user: ask for it, then check who it is, then [log in](Session::login_in).
    ///
    /// # Errors
    /// As [`Session::login`].
    pub async fn era(&self, user: &str) -> Result<Era, Problem> {
        Ok(Era { user: user.to_owned(), number: self.sessions().era(user).await? })
    }

    /// Like [`Session::login`], unless the user's sessions have been revoked since the era was asked for:
    /// then it is answered with `409`. Of a login and a revocation at once, one sees the other. Known for
    /// an hour after a revocation.
    ///
    /// # Errors
    /// Then, and as [`Session::login`].
    pub async fn login_in(&self, era: &Era) -> Result<(), Problem> {
        self.enter(&era.user, Some(era.number)).await
    }

    async fn enter(&self, user: &str, era: Option<i64>) -> Result<(), Problem> {
        self.unanswered()?;
        let (sessions, before) = (self.sessions(), self.live());
        let data = self.encode(&self.data()?)?;
        let id = Id::new(Some(user));
        let opened = sessions.open(&id, Some(user), data.clone(), self.agent(), era).await?;
        let Some(mut record) = opened else { return Err(Problem::of(&problems::LOGIN_REVOKED)) };
        record.data = data;
        // Should this not succeed, nobody ever gets the new one, which ends by itself.
        if let Some(before) = before
            && let Some(last) = sessions.end(before.id.key).await?
            && last.rev != before.record.rev
        {
            // What another request wrote into the anonymous one meanwhile comes along.
            let last = Live::new(before.id, last)?;
            record.data = self.encode(&self.changes().on(&last.data)?)?;
            sessions.write(id.key, &record, record.data.clone()).await?;
            record.rev += 1;
        }
        sessions.count("login", 1);
        self.hold(Held::Live(Live::new(id, record)?));
        self.forget_changes();
        self.say(Cookie::Set(id));
        Ok(())
    }

    /// Ends it, and takes the cookie back.
    ///
    /// # Errors
    /// When the store does not answer, or another request has replaced it just now.
    pub async fn logout(&self) -> Result<(), Problem> {
        self.unanswered()?;
        match self.held() {
            Held::Replaced => return Err(replaced()),
            Held::Live(live) => _ = self.sessions().end(live.id.key).await?,
            Held::Nothing => {}
        }
        self.leave();
        Ok(())
    }

    /// Gives it another secret, at once and for good: for a change of what it may do. What is on its way
    /// with the one before finds no session. Without it the secret changes every `session.rotate`.
    ///
    /// # Errors
    /// When the store does not answer, or another request has ended it just now.
    pub async fn rotate(&self) -> Result<(), Problem> {
        self.unanswered()?;
        let mut live = match self.held() {
            Held::Live(live) => live,
            Held::Replaced => return Err(replaced()),
            Held::Nothing => return Ok(()),
        };
        for _ in 0..TRIES {
            let (id, changed) = self.sessions().renew(&live.id, &live.record, false).await?;
            match changed {
                ChangedSession::Changed => {
                    let Live { record, data, .. } = &*live;
                    let mut record = record.clone();
                    record.issued.at = self.sessions().now();
                    record.issued.digest = id.digest();
                    self.hold(Held::Live(Rc::new(Live { id, record, data: data.clone() })));
                    self.say(Cookie::Set(id));
                    return Ok(());
                }
                // Somebody else gave it a secret meanwhile; ours is the last.
                ChangedSession::Conflict(now) => {
                    let record = SessionRecord { issued: now.issued, ..live.record.clone() };
                    live = Rc::new(Live { id: live.id, record, data: live.data.clone() });
                }
                ChangedSession::Gone => break,
            }
        }
        Err(replaced())
    }

    /// Ends all sessions of its user, this one too; answers how many. None when there is no user.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn revoke_all(&self) -> Result<usize, Problem> {
        self.unanswered()?;
        let Some(user) = self.user() else { return Ok(0) };
        let ended = self.sessions().revoke_all(&user).await?;
        self.leave();
        Ok(ended)
    }

    /// Ends all other sessions of its user; answers how many. None when there is no user.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn revoke_others(&self) -> Result<usize, Problem> {
        self.unanswered()?;
        let Some(user) = self.user() else { return Ok(0) };
        Ok(self.sessions().revoke_but(&user, self.id()).await?)
    }

    fn leave(&self) {
        self.hold(Held::Nothing);
        self.forget_changes();
        self.say(Cookie::Clear);
    }
}
