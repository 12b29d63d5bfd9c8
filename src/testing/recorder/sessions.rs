//! Sessions pass through as everything does.

use super::Recorder;
use crate::{
    backend::{
        Fut,
        sessions::{
            ChangedSession, Digest, FoundSession, Issued, OpenedSession, SessionKey, SessionName, SessionRecord,
            Sessions, Use,
        },
    },
    error::Result,
};

impl Sessions for Recorder {
    fn session(&self, key: SessionKey, now: i64) -> Fut<'_, Result<FoundSession>> {
        self.live(self.store.session(key, now))
    }

    fn open_session(
        &self,
        key: SessionKey,
        record: SessionRecord,
        most: usize,
        era: Option<i64>,
    ) -> Fut<'_, Result<OpenedSession>> {
        self.live(self.store.open_session(key, record, most, era))
    }

    fn write_session(&self, key: SessionKey, rev: u64, data: Vec<u8>, used: Use) -> Fut<'_, Result<ChangedSession>> {
        self.live(self.store.write_session(key, rev, data, used))
    }

    fn touch_session(&self, key: SessionKey, used: Use) -> Fut<'_, Result<bool>> {
        self.live(self.store.touch_session(key, used))
    }

    fn renew_session(&self, key: SessionKey, old: Digest, new: Issued, used: Use) -> Fut<'_, Result<ChangedSession>> {
        self.live(self.store.renew_session(key, old, new, used))
    }

    fn end_session(
        &self,
        key: SessionKey,
        user: Option<String>,
        mark: i64,
        now: i64,
    ) -> Fut<'_, Result<Option<SessionRecord>>> {
        self.live(self.store.end_session(key, user, mark, now))
    }

    fn end_sessions(&self, user: String, but: Option<SessionName>, now: i64) -> Fut<'_, Result<usize>> {
        self.live(self.store.end_sessions(user, but, now))
    }

    fn sessions_of(&self, user: String, now: i64) -> Fut<'_, Result<Vec<(SessionName, SessionRecord)>>> {
        self.live(self.store.sessions_of(user, now))
    }

    fn session_era(&self, user: String) -> Fut<'_, Result<i64>> {
        self.live(self.store.session_era(user))
    }
}
