//! What Redis really keeps, looked at before anything is promised (G13): a policy that cannot hold what
//! `accept` says is refused, with the line to change.

use std::time::Duration;

use serde::Deserialize;

use super::{
    mongo::{self, States},
    redis::{Fault, Redis, int},
};
use crate::error::{Error, Result};

/// How durable a message is before it is accepted, and a commit before it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// On the disk of the Redis server that holds it.
    #[default]
    Fsync,
    /// In the memory of at least one replica as well.
    Replicated,
    /// In the memory of the Redis server, and on its disk within about a second.
    Memory,
}

/// What is waited for after each write.
pub(super) struct Durable {
    wait: Wait,
}

enum Wait {
    /// The answer itself means it.
    Nothing,
    /// `WAIT`: so many replicas.
    Replicas,
    /// `WAITAOF`: the local disk.
    Disk,
}

const PATIENCE: Duration = Duration::from_millis(3000);

impl Durable {
    /// Waits until what was written to a partition before is as durable as promised.
    pub(super) async fn wait(&self, redis: &Redis, partition: u16) -> Result<(), Fault> {
        self.wait_for(redis, redis.lane(partition), &redis.key(partition)).await
    }

    /// The same, of what was written about the whole store.
    pub(super) async fn wait_meta(&self, redis: &Redis) -> Result<(), Fault> {
        self.wait_for(redis, 0, &redis.meta_key()).await
    }

    /// The same, of what was written to a key on a writing connection.
    pub(super) async fn wait_for(&self, redis: &Redis, lane: usize, key: &str) -> Result<(), Fault> {
        let millis = PATIENCE.as_millis().to_string();
        match self.wait {
            Wait::Nothing => Ok(()),
            Wait::Replicas => {
                let replicas = redis.ask_lane(lane, key, "WAIT", &["1", &millis]).await?;
                enough(int(&replicas) >= 1, "no replica confirmed the write")
            }
            Wait::Disk => {
                let disks = redis.ask_lane(lane, key, "WAITAOF", &["1", "0", &millis]).await?;
                let local = super::redis::list(disks).first().map_or(0, int);
                enough(local >= 1, "the write did not reach the disk")
            }
        }
    }
}

fn enough(enough: bool, why: &str) -> Result<(), Fault> {
    if enough { Ok(()) } else { Err(Fault::Unknown(format!("{why} within {PATIENCE:?}"))) }
}

/// One server's settings that matter.
struct Policy {
    server: String,
    appendonly: Option<String>,
    appendfsync: Option<String>,
    eviction: Option<String>,
    replicas: i64,
    waitaof: bool,
}

fn refuse(server: &str, what: String) -> Error {
    Error::terminal(format!("Redis {server}: {what}")).code("cannot_promise")
}

/// Looks at the servers and refuses what cannot be kept.
pub(super) async fn check(redis: &Redis, states: &States, accept: Accept, serving: bool) -> Result<Durable> {
    if !serving {
        return Ok(Durable { wait: Wait::Nothing });
    }
    let mut wait = Wait::Nothing;
    for policy in policies(redis).await? {
        match policy.judge(accept)? {
            Wait::Nothing => {}
            more => wait = more,
        }
    }
    mongo::hello(states).await?;
    Ok(Durable { wait })
}

impl Policy {
    fn judge(&self, accept: Accept) -> Result<Wait> {
        let say = |what: &str| Err(refuse(&self.server, what.to_owned()));
        match self.eviction.as_deref() {
            None | Some("noeviction") => {}
            Some(other) => {
                return say(&format!(
                    "maxmemory-policy is {other}, so it may drop mailboxes: set `maxmemory-policy noeviction`"
                ));
            }
        }
        match (accept, self.appendonly.as_deref(), self.appendfsync.as_deref()) {
            (Accept::Memory, ..) => Ok(Wait::Nothing),
            (Accept::Replicated, ..) if self.replicas == 0 => {
                say("store.accept is \"replicated\" and it has no replica: attach one, or choose \"fsync\"")
            }
            (Accept::Replicated, ..) => Ok(Wait::Replicas),
            (Accept::Fsync, Some("yes"), Some("always")) => Ok(Wait::Nothing),
            (Accept::Fsync, Some("yes") | None, _) if self.waitaof => Ok(Wait::Disk),
            (Accept::Fsync, None, _) => say(
                "it does not tell whether it keeps an append-only file (CONFIG is not allowed) and has no WAITAOF: \
                 choose store.accept = \"memory\" if you know what that means",
            ),
            (Accept::Fsync, Some("yes"), _) => {
                say("store.accept is \"fsync\" and appendfsync is not: set `appendfsync always`, or store.accept = \
                 \"memory\", which loses up to a second when the machine (not the process) dies")
            }
            (Accept::Fsync, ..) => say(
                "store.accept is \"fsync\" and it keeps no append-only file: set `appendonly yes` and `appendfsync \
                 always`, or store.accept = \"memory\"",
            ),
        }
    }
}

async fn policies(redis: &Redis) -> Result<Vec<Policy>> {
    let mut policies = Vec::new();
    for server in redis.servers() {
        let setting = async |name: &str| -> Option<String> {
            // Managed servers refuse CONFIG: then it is not known.
            let answer = redis.ask_server(&server, "CONFIG", &["GET", name]).await.ok()?;
            super::redis::pairs(answer).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
        };
        // INFO is answered where CONFIG is not.
        let info = async |section: &str, field: &str| -> Result<Option<String>> {
            let text = redis.ask_server(&server, "INFO", &[section]).await?.as_string().unwrap_or_default();
            let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            Ok(found.map(|value| value.trim().to_owned()))
        };
        let replicas = info("replication", "connected_slaves").await?;
        let known = redis.ask_server(&server, "COMMAND", &["INFO", "WAITAOF"]).await?;
        let waitaof = super::redis::list(known).first().is_some_and(|info| !info.is_null());
        policies.push(Policy {
            server: server.to_string(),
            appendonly: setting("appendonly").await,
            appendfsync: setting("appendfsync").await,
            eviction: info("memory", "maxmemory_policy").await?,
            replicas: replicas.and_then(|count| count.parse().ok()).unwrap_or(0),
            waitaof,
        });
    }
    Ok(policies)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(appendonly: &str, appendfsync: &str, eviction: &str, replicas: i64, waitaof: bool) -> Policy {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Policy {
            server: "127.0.0.1:6379".into(),
            appendonly: some(appendonly),
            appendfsync: some(appendfsync),
            eviction: some(eviction),
            replicas,
            waitaof,
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_the_line_to_change() {
        let said =
            |policy: Policy, accept| policy.judge(accept).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said(policy("yes", "always", "noeviction", 0, false), Accept::Fsync), "");
        assert_eq!(said(policy("yes", "everysec", "noeviction", 0, true), Accept::Fsync), "", "WAITAOF does it");
        assert!(
            said(policy("yes", "everysec", "noeviction", 0, false), Accept::Fsync).contains("`appendfsync always`")
        );
        assert!(said(policy("no", "everysec", "noeviction", 0, true), Accept::Fsync).contains("`appendonly yes`"));
        assert!(said(policy("", "", "", 0, false), Accept::Fsync).contains("does not tell"));
        assert!(said(policy("yes", "always", "allkeys-lru", 0, false), Accept::Memory).contains("noeviction"));
        assert!(said(policy("yes", "always", "noeviction", 0, false), Accept::Replicated).contains("no replica"));
        assert_eq!(said(policy("no", "", "noeviction", 1, false), Accept::Replicated), "");
        assert_eq!(said(policy("no", "", "noeviction", 0, false), Accept::Memory), "");
    }
}
