//! Sessions in Redis: each a value with a time to live, in the drawer of its user or in one at random.
//!
//! Invariant: a drawer is a hash tag of its own, and all that changes a session is one function call in
//! it; how many partitions there are plays no part, so a resize leaves sessions where they are.

use fred::types::Value;

use super::{
    Cluster, Core,
    pack::{Packer, Unpacker},
    redis::{Fault, Repeat, arg, int, list, number, raw},
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

/// How many values a session is; one that was replaced is only the first of them. The functions know.
const VALUES: u32 = 13;

fn pack(record: &SessionRecord) -> Vec<u8> {
    let Issued { digest, at, former } = record.issued;
    let mut packer = Packer::default();
    packer.array(VALUES as usize).int(record.until).int(record.rev as i64).bytes(&digest);
    packer.int(record.created).int(record.seen).int(record.ends).int(at);
    packer.bytes(record.user.as_deref().unwrap_or_default().as_bytes());
    packer.bytes(record.agent.as_bytes()).bytes(&record.data);
    match former {
        Some(former) => packer.bytes(&former.digest).bytes(&former.nonce).int(former.until),
        None => packer.bytes(b"").bytes(b"").int(0),
    };
    packer.done()
}

fn unpack(bytes: &[u8]) -> Option<SessionRecord> {
    let mut read = Unpacker::array(bytes, VALUES)?;
    let (until, rev, digest) = (read.int()?, read.int()? as u64, read.bytes()?.try_into().ok()?);
    let (created, seen, ends, at) = (read.int()?, read.int()?, read.int()?, read.int()?);
    let user = Some(read.text()?.to_owned()).filter(|user| !user.is_empty());
    let (agent, data) = (read.text()?.to_owned(), read.bytes()?.to_vec());
    let former = match (read.bytes()?, read.bytes()?, read.int()?) {
        ([], ..) => None,
        (digest, nonce, until) => {
            Some(Former { digest: digest.try_into().ok()?, nonce: nonce.try_into().ok()?, until })
        }
    };
    let issued = Issued { digest, at, former };
    Some(SessionRecord { user, created, seen, until, ends, rev, agent, data, issued })
}

fn record(bytes: &[u8]) -> Result<SessionRecord> {
    unpack(bytes).ok_or_else(unreadable)
}

/// What Redis says that was not asked for.
fn unreadable() -> Error {
    Error::new("what Redis answered of a session cannot be read").code("redis")
}

fn changed(answer: Value) -> Result<ChangedSession> {
    let mut answer = list(answer).into_iter();
    let what = answer.next().and_then(|what| what.as_string()).unwrap_or_default();
    match what.as_str() {
        "changed" => Ok(ChangedSession::Changed),
        "conflict" => Ok(ChangedSession::Conflict(record(&answer.next().map(raw).unwrap_or_default())?)),
        "gone" => Ok(ChangedSession::Gone),
        _ => Err(unreadable()),
    }
}

fn text(name: SessionName) -> Value {
    arg(name.to_string())
}

impl Core {
    /// The prefix of a drawer's keys.
    fn drawer(&self, drawer: u16) -> String {
        format!("{}:{{s{drawer:04}}}", self.redis.prefix())
    }

    /// Calls a function that changes a drawer, and answers when that is as durable as configured.
    async fn drawn(&self, drawer: u16, function: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let (lane, key) = (self.redis.lane(drawer), self.drawer(drawer));
        self.redis.write(lane, &key, (function, args), Repeat::Once, &self.durable).await
    }
}

impl Sessions for Cluster {
    /// A plain read: with every request, so no function is worth its time.
    fn session(&self, key: SessionKey, now: i64) -> Fut<'_, Result<FoundSession>> {
        Box::pin(async move {
            let key = format!("{}:id:{}", self.core.drawer(key.drawer), key.name);
            let Some(bytes) = self.core.redis.value(key).await? else { return Ok(FoundSession::Nothing) };
            let replaced = Unpacker::array(&bytes, 1).map(|mut read| read.int().unwrap_or(0));
            Ok(match replaced {
                Some(until) if until > now => FoundSession::Replaced,
                Some(_) => FoundSession::Nothing,
                None => {
                    let record = record(&bytes)?;
                    if record.until > now { FoundSession::Live(record) } else { FoundSession::Nothing }
                }
            })
        })
    }

    fn open_session(
        &self,
        key: SessionKey,
        record: SessionRecord,
        most: usize,
        era: Option<i64>,
    ) -> Fut<'_, Result<OpenedSession>> {
        Box::pin(async move {
            let era = era.map(|era| era.to_string()).unwrap_or_default();
            let args = vec![text(key.name), number(most), arg(era), arg(pack(&record))];
            let answer = list(self.core.drawn(key.drawer, "session_open", args).await?);
            match answer.first().and_then(|what| what.as_string()).as_deref() {
                Some("opened") => Ok(OpenedSession::Opened(answer.get(1).map_or(0, int) as usize)),
                Some("revoked") => Ok(OpenedSession::Revoked),
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
            let drawer = self.core.drawer(key.drawer);
            Ok(int(&self.core.redis.call_at(key.drawer, drawer, "session_touch", args).await?) == 1)
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
            let bytes = raw(self.core.drawn(key.drawer, "session_end", args).await?);
            if bytes.is_empty() { Ok(None) } else { record(&bytes).map(Some) }
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
            let drawer = self.core.drawer(drawer_of(&user));
            let found = list(self.core.redis.look_at(drawer, "sessions", vec![arg(user), number(now)]).await?);
            let one = |pair: &[Value]| {
                let name = pair[0].as_string().unwrap_or_default().parse()?;
                Ok((name, SessionRecord { data: Vec::new(), ..record(&raw(pair[1].clone()))? }))
            };
            found.chunks_exact(2).map(one).collect()
        })
    }

    fn session_era(&self, user: String) -> Fut<'_, Result<i64>> {
        Box::pin(async move {
            let drawer = self.core.drawer(drawer_of(&user));
            Ok(int(&self.core.redis.look_at(drawer, "session_era", vec![arg(user)]).await?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_a_session_never_changes() {
        let former = Former { digest: [1; 16], nonce: [0xff; 16], until: 7 };
        let mut record = SessionRecord {
            user: Some("ann".into()),
            created: 1_767_225_600_000,
            seen: 2,
            until: 3,
            ends: 4,
            rev: 5,
            agent: "B".into(),
            data: b"{}".to_vec(),
            issued: Issued { digest: [0xee; 16], at: 6, former: Some(former) },
        };
        let bytes = pack(&record);
        // Sessions outlive builds: a failure here means that all are lost.
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (digest, old, nonce) = ("ee".repeat(16), "01".repeat(16), "ff".repeat(16));
        let expected = format!("9d0305b0{digest}cf0000019b76daa8000204 06a3616e6ea142a27b7db0{old}b0{nonce}07");
        assert_eq!(hex, expected.replace(' ', ""));
        assert_eq!(unpack(&bytes), Some(record.clone()));
        (record.user, record.issued.former) = (None, None);
        assert_eq!(unpack(&pack(&record)), Some(record));
        assert_eq!(unpack(&bytes[..bytes.len() - 1]), None);
    }
}
