//! Sessions in Redis: each a hash with a time to live, in the drawer of its user or in one at random.
//!
//! Invariant: a drawer is a hash tag of its own, and all that concerns a session is one function call in
//! it; how many partitions there are plays no part, so a resize leaves sessions where they are.

use fred::types::Value;

use super::{
    Cluster, Core,
    redis::{Fault, arg, int, list, number, raw},
};
use crate::{
    backend::{
        Fut,
        sessions::{
            ChangedSession, Digest, ERA_KEPT, Former, FoundSession, Issued, OpenedSession, SessionKey, SessionName,
            SessionRecord, Sessions, Use, drawer_of,
        },
    },
    error::{Error, Result},
};

/// What Redis says that was not asked for.
fn unreadable() -> Error {
    Error::new("what Redis answered of a session cannot be read").code("redis")
}

fn bytes(value: &Value) -> Result<[u8; 16]> {
    raw(value.clone()).try_into().map_err(|_| unreadable())
}

/// The fields of a session, in the order in which the functions answer them.
fn record(fields: &[Value]) -> Result<SessionRecord> {
    let [user, created, seen, until, ends, rev, agent, data, digest, at, former, nonce, grace] = fields else {
        return Err(unreadable());
    };
    let former = match former {
        Value::Null => None,
        former => Some(Former { digest: bytes(former)?, nonce: bytes(nonce)?, until: int(grace) }),
    };
    Ok(SessionRecord {
        user: user.as_string(),
        created: int(created),
        seen: int(seen),
        until: int(until),
        ends: int(ends),
        rev: int(rev) as u64,
        agent: agent.as_string().unwrap_or_default(),
        data: raw(data.clone()),
        issued: Issued { digest: bytes(digest)?, at: int(at), former },
    })
}

/// What happened, and the rest of the answer.
fn said(answer: Value) -> (String, Vec<Value>) {
    let mut answer = list(answer);
    if answer.is_empty() {
        return (String::new(), answer);
    }
    let what = answer.remove(0).as_string().unwrap_or_default();
    (what, answer)
}

fn changed(answer: Value) -> Result<ChangedSession> {
    let (what, fields) = said(answer);
    match what.as_str() {
        "changed" => Ok(ChangedSession::Changed),
        "conflict" => Ok(ChangedSession::Conflict(record(&fields)?)),
        "gone" => Ok(ChangedSession::Gone),
        _ => Err(unreadable()),
    }
}

fn text(name: SessionName) -> Value {
    arg(name.to_string())
}

impl Core {
    /// Calls a function that changes a drawer, and answers when that is as durable as configured.
    async fn drawn(&self, drawer: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let answer = self.redis.drawer(drawer, function, args).await?;
        self.durable.wait_drawer(&self.redis, drawer).await?;
        Ok(answer)
    }
}

impl Sessions for Cluster {
    fn session(&self, key: SessionKey, now: i64) -> Fut<'_, Result<FoundSession>> {
        Box::pin(async move {
            let args = vec![text(key.name), number(now)];
            let (what, fields) = said(self.core.redis.look_drawer(key.drawer, "session", args).await?);
            match what.as_str() {
                "live" => Ok(FoundSession::Live(record(&fields)?)),
                "replaced" => Ok(FoundSession::Replaced),
                "nothing" => Ok(FoundSession::Nothing),
                _ => Err(unreadable()),
            }
        })
    }

    fn open_session(
        &self,
        key: SessionKey,
        record: SessionRecord,
        per_user: usize,
        era: Option<i64>,
    ) -> Fut<'_, Result<OpenedSession>> {
        Box::pin(async move {
            let args = vec![
                text(key.name),
                number(per_user),
                arg(era.map(|era| era.to_string()).unwrap_or_default()),
                arg(record.user.unwrap_or_default()),
                number(record.created),
                number(record.seen),
                number(record.until),
                number(record.ends),
                number(record.rev),
                arg(record.agent),
                arg(record.data),
                arg(record.issued.digest.to_vec()),
                number(record.issued.at),
            ];
            let (what, rest) = said(self.core.drawn(key.drawer, "session_open", args).await?);
            match what.as_str() {
                "opened" => Ok(OpenedSession::Opened(rest.first().map_or(0, int) as usize)),
                "revoked" => Ok(OpenedSession::Revoked),
                _ => Err(unreadable()),
            }
        })
    }

    fn write_session(&self, key: SessionKey, rev: u64, data: Vec<u8>, used: Use) -> Fut<'_, Result<ChangedSession>> {
        Box::pin(async move {
            let args = vec![text(key.name), number(rev), number(used.now), number(used.until), arg(data)];
            changed(self.core.drawn(key.drawer, "session_write", args).await?)
        })
    }

    fn touch_session(&self, key: SessionKey, used: Use) -> Fut<'_, Result<bool>> {
        Box::pin(async move {
            let args = vec![text(key.name), number(used.now), number(used.until)];
            Ok(int(&self.core.redis.drawer(key.drawer, "session_touch", args).await?) == 1)
        })
    }

    fn renew_session(&self, key: SessionKey, old: Digest, new: Issued, used: Use) -> Fut<'_, Result<ChangedSession>> {
        Box::pin(async move {
            let mut args = vec![
                text(key.name),
                arg(old.to_vec()),
                number(used.now),
                number(used.until),
                arg(new.digest.to_vec()),
                number(new.at),
            ];
            if let Some(former) = new.former {
                args.extend([arg(former.nonce.to_vec()), number(former.until)]);
            }
            changed(self.core.drawn(key.drawer, "session_renew", args).await?)
        })
    }

    fn end_session(
        &self,
        key: SessionKey,
        user: Option<String>,
        mark: i64,
        now: i64,
    ) -> Fut<'_, Result<Option<SessionRecord>>> {
        Box::pin(async move {
            let args = vec![text(key.name), arg(user.unwrap_or_default()), number(mark), number(now)];
            let fields = list(self.core.drawn(key.drawer, "session_end", args).await?);
            if fields.is_empty() { Ok(None) } else { record(&fields).map(Some) }
        })
    }

    fn end_sessions(&self, user: String, but: Option<SessionName>, now: i64) -> Fut<'_, Result<usize>> {
        Box::pin(async move {
            let drawer = drawer_of(&user);
            let but = arg(but.map(|but| but.to_string()).unwrap_or_default());
            let args = vec![arg(user), but, number(now), number(ERA_KEPT)];
            Ok(int(&self.core.drawn(drawer, "sessions_end", args).await?) as usize)
        })
    }

    fn sessions_of(&self, user: String, now: i64) -> Fut<'_, Result<Vec<(SessionName, SessionRecord)>>> {
        Box::pin(async move {
            let drawer = drawer_of(&user);
            let found = self.core.redis.look_drawer(drawer, "sessions", vec![arg(user), number(now)]).await?;
            let one = |found: Value| {
                let (name, fields) = said(found);
                Ok((name.parse()?, record(&fields)?))
            };
            list(found).into_iter().map(one).collect()
        })
    }

    fn session_era(&self, user: String) -> Fut<'_, Result<i64>> {
        Box::pin(async move {
            let drawer = drawer_of(&user);
            Ok(int(&self.core.redis.look_drawer(drawer, "session_era", vec![arg(user)]).await?))
        })
    }
}
