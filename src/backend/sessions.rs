//! Sessions of people at their browsers, as a store keeps them.
//!
//! A session has a name, which is no secret and stays, and a secret, of which a store has only a digest:
//! reading a store opens no session. A renewal gives it another secret; the one before opens it too for
//! a moment (its grace), or no longer.
//!
//! Invariant: all sessions of a user lie in one drawer, so ending them all is one atomic step. A session
//! that was being opened meanwhile was either there and is ended, or finds that the user's era is over.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use super::Fut;
use crate::error::{Error, Result};

/// How many drawers there are, whatever the number of partitions is: cookies name theirs, so it never
/// changes.
pub const DRAWERS: u16 = 4096;

/// How long it is remembered that all sessions of a user were ended, in milliseconds: longer than any
/// login takes.
pub const ERA_KEPT: i64 = 3_600_000;

/// The drawer of a user's sessions.
pub fn drawer_of(user: &str) -> u16 {
    (xxh3_64(user.as_bytes()) % u64::from(DRAWERS)) as u16
}

/// What a session is called, from its opening to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionName(pub [u8; 12]);

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for SessionName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| {
            Error::terminal(format!("{text:?} names no session: expected the 16 characters that a list shows"))
        })
    }
}

impl Serialize for SessionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Its drawer, below [`DRAWERS`].
    pub drawer: u16,
    /// Its name.
    pub name: SessionName,
}

/// The first 128 bits of the SHA-256 of a secret.
pub type Digest = [u8; 16];

/// The secret of a session, as a store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The digest of the present one.
    pub digest: Digest,
    /// Since when, in milliseconds since the Unix epoch.
    pub at: i64,
    /// The one before, if that has a grace.
    pub former: Option<Former>,
}

/// A secret in its grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// Its digest.
    pub digest: Digest,
    /// What the present secret was made with, out of this one.
    pub nonce: [u8; 16],
    /// The end of its grace, in milliseconds since the Unix epoch.
    pub until: i64,
}

/// What is kept of a session. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Whose it is; nobody's before a login.
    pub user: Option<String>,
    /// When it was opened.
    pub created: i64,
    /// When it was used last, as far as that was written.
    pub seen: i64,
    /// When it has ended unless it is used before.
    pub until: i64,
    /// When it has ended at the latest.
    pub ends: i64,
    /// Rises with each change of its data, from 1.
    pub rev: u64,
    /// What the client says of itself.
    pub agent: String,
    /// A JSON object.
    pub data: Vec<u8>,
    /// What opens it.
    pub issued: Issued,
}

/// What a look for a session finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundSession {
    /// It is live.
    Live(SessionRecord),
    /// It was given up a moment ago, by a login or a logout.
    Replaced,
    /// There is none, or it has ended.
    Nothing,
}

/// What became of the wish to open a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedSession {
    /// It is open, and so many older ones were ended to make room.
    Opened(usize),
    /// All sessions of the user have been ended since the era that was named began.
    Revoked,
}

/// What became of the wish to change a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedSession {
    /// It is changed.
    Changed,
    /// Somebody else changed it before; so it is now.
    Conflict(SessionRecord),
    /// There is none any more.
    Gone,
}

/// That a session is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Now, in milliseconds since the Unix epoch.
    pub now: i64,
    /// When it has ended unless it is used again.
    pub until: i64,
}

/// Sessions.
pub trait Sessions: Send + Sync + 'static {
    /// A session, in one round trip.
    fn session(&self, key: SessionKey, now: i64) -> Fut<'_, Result<FoundSession>>;

    /// Opens a session under a new name. One of a user is refused when `era` is named and over. If there
    /// would be more than `most` of the user, or of nobody's in the drawer, the oldest of them are ended: of
    /// nobody's some more than that, so that it is not asked every time.
    fn open_session(
        &self,
        key: SessionKey,
        record: SessionRecord,
        most: usize,
        era: Option<i64>,
    ) -> Fut<'_, Result<OpenedSession>>;

    /// Replaces the data, if its revision is still `rev`, which rises by one.
    fn write_session(&self, key: SessionKey, rev: u64, data: Vec<u8>, used: Use) -> Fut<'_, Result<ChangedSession>>;

    /// Notes that it is used; `false` when there is none any more. May be lost in a crash.
    fn touch_session(&self, key: SessionKey, used: Use) -> Fut<'_, Result<bool>>;

    /// Gives it another secret, if the present one has the digest `old`.
    fn renew_session(&self, key: SessionKey, old: Digest, new: Issued, used: Use) -> Fut<'_, Result<ChangedSession>>;

    /// Ends one, if it is this user's where one is named; answers how it was. It is remembered as
    /// replaced for `mark` milliseconds.
    fn end_session(
        &self,
        key: SessionKey,
        user: Option<String>,
        mark: i64,
        now: i64,
    ) -> Fut<'_, Result<Option<SessionRecord>>>;

    /// Ends all of a user but one, and the user's era; answers how many.
    fn end_sessions(&self, user: String, but: Option<SessionName>, now: i64) -> Fut<'_, Result<usize>>;

    /// All of a user, in the order they were opened, without their data.
    fn sessions_of(&self, user: String, now: i64) -> Fut<'_, Result<Vec<(SessionName, SessionRecord)>>>;

    /// The user's present era: another one once all sessions were ended.
    fn session_era(&self, user: String) -> Fut<'_, Result<i64>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drawer_of_a_user_never_changes() {
        // Cookies and stored sessions depend on these.
        assert_eq!([drawer_of("ann"), drawer_of("bob"), drawer_of("")], [712, 2277, 1218]);
    }

    #[test]
    fn a_name_is_read_as_it_is_written() {
        let name = SessionName([0xfe; 12]);
        assert_eq!(name.to_string(), "_v7-_v7-_v7-_v7-");
        assert_eq!(name.to_string().parse::<SessionName>().unwrap(), name);
        for bad in ["", "_v7-", "_v7-_v7-_v7-_v7=", "_v7-_v7-_v7-_v7-_v7-", "+v7-_v7-_v7-_v7-"] {
            assert!(bad.parse::<SessionName>().unwrap_err().is_terminal(), "{bad}");
        }
    }
}
