//! What Redis really keeps, looked at before anything is promised (G13): a policy that cannot hold what
//! `accept` says is refused, with the line to change.

use std::time::Duration;

use fred::types::Value;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    mongo::{self, States},
    redis::{Fault, Master, Redis, int, list, number, pairs},
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

/// What must hold of a write before it counts.
pub(super) struct Durable {
    wait: Option<Wait>,
}

/// What is waited for after each write, over the connection that it went over: Redis knows by that which
/// write is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// `WAIT`: so many replicas.
    Replicas,
    /// `WAITAOF`: the local disk.
    Disk,
}

const PATIENCE: Duration = Duration::from_millis(3000);

impl Durable {
    /// What is waited for; nothing where the answer itself means it.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.wait
    }
}

impl Wait {
    /// The command that waits.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Replicas => "WAIT",
            Self::Disk => "WAITAOF",
        }
    }

    /// Its arguments.
    pub(super) fn args(self) -> Vec<Value> {
        let counts: &[&str] = match self {
            Self::Replicas => &["1"],
            Self::Disk => &["1", "0"],
        };
        counts.iter().map(|count| Value::from(*count)).chain([number(PATIENCE.as_millis())]).collect()
    }

    /// Whether its answer is enough.
    pub(super) fn judge(self, answer: Value) -> Result<(), Fault> {
        let (enough, why) = match self {
            Self::Replicas => (int(&answer) >= 1, "no replica confirmed the write"),
            Self::Disk => (list(answer).first().map_or(0, int) >= 1, "the write did not reach the disk"),
        };
        if enough { Ok(()) } else { Err(Fault::Unknown(format!("{why} within {PATIENCE:?}"))) }
    }
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
        return Ok(Durable { wait: None });
    }
    let mut wait = None;
    for master in redis.servers() {
        let needed = policy(&master).await?.judge(accept)?;
        if needed == Some(Wait::Disk) {
            see_it_wait(redis, &master).await?;
        }
        wait = wait.or(needed);
    }
    mongo::hello(states).await?;
    Ok(Durable { wait })
}

/// Writes in a row that the disk is waited for of.
const ROUNDS: usize = 3;
/// A server that syncs once a second needs that for each write but the first. One that does not wait needs
/// milliseconds.
const LEAST: Duration = Duration::from_millis(600);
/// So many keys are tried until one is found that a server has.
const TRIES: u32 = 100_000;

/// Writes and has the disk waited for, until that has taken time. Of a server that never takes any it is
/// known that it answers before it syncs.
async fn see_it_wait(redis: &Redis, master: &Master) -> Result<()> {
    let mut keys = (0..TRIES).map(|n| format!("{}:{{probe-{n}}}", redis.prefix()));
    let Some(key) = keys.find(|key| redis.has(master, key)) else {
        return Err(refuse(&master.name(), "it has no slots of the cluster any more".into()));
    };
    let args = Wait::Disk.args().iter().filter_map(Value::as_string).collect::<Vec<_>>();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        master.ask("SET", &[&key, "1"]).await?;
        let asked = Instant::now();
        let answer = master.ask(Wait::Disk.command(), &args).await?;
        took.push(asked.elapsed());
        if Wait::Disk.judge(answer).is_err() {
            let what = "store.accept is \"fsync\" and WAITAOF does not tell that a write has reached the disk: set \
                        `appendfsync always`";
            return Err(refuse(&master.name(), what.into()));
        }
    }
    // Of no matter: it is one small key.
    let _ = master.ask("DEL", &[&key]).await;
    if !waited(&took) {
        let what = "store.accept is \"fsync\", its WAITAOF answers before the disk has the write (redis/redis#12622, \
                    mended by #13793 in Redis 7.4.3 and 8.0), and appendfsync is not known to be `always`: set \
                    `appendfsync always` (and allow CONFIG GET), or store.accept = \"memory\", which loses up to a second \
                    when the machine (not the process) dies";
        return Err(refuse(&master.name(), what.into()));
    }
    Ok(())
}

/// Whether so long rounds, one after the other, can each have waited for a sync.
fn waited(took: &[Duration]) -> bool {
    let later = took.get(1..).unwrap_or_default();
    later.iter().sum::<Duration>() >= LEAST * later.len() as u32
}

impl Policy {
    fn judge(&self, accept: Accept) -> Result<Option<Wait>> {
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
            (Accept::Memory, ..) => Ok(None),
            (Accept::Replicated, ..) if self.replicas == 0 => {
                say("store.accept is \"replicated\" and it has no replica: attach one, or choose \"fsync\"")
            }
            (Accept::Replicated, ..) => Ok(Some(Wait::Replicas)),
            (Accept::Fsync, Some("yes"), Some("always")) => Ok(None),
            (Accept::Fsync, Some("yes") | None, _) if self.waitaof => Ok(Some(Wait::Disk)),
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

/// Asks a server for them.
async fn policy(master: &Master) -> Result<Policy> {
    let setting = async |name: &str| -> Option<String> {
        // Managed servers refuse CONFIG: then it is not known.
        let answer = master.ask("CONFIG", &["GET", name]).await.ok()?;
        pairs(answer).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    };
    // INFO is answered where CONFIG is not.
    let info = async |section: &str, field: &str| -> Result<Option<String>> {
        let text = master.ask("INFO", &[section]).await?.as_string().unwrap_or_default();
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(found.map(|value| value.trim().to_owned()))
    };
    let replicas = info("replication", "connected_slaves").await?;
    let known = master.ask("COMMAND", &["INFO", "WAITAOF"]).await?;
    let waitaof = list(known).first().is_some_and(|info| !info.is_null());
    Ok(Policy {
        server: master.name(),
        appendonly: setting("appendonly").await,
        appendfsync: setting("appendfsync").await,
        eviction: info("memory", "maxmemory_policy").await?,
        replicas: replicas.and_then(|count| count.parse().ok()).unwrap_or(0),
        waitaof,
    })
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
    fn a_disk_that_was_waited_for_took_its_time() {
        let rounds = |millis: [u64; 3]| waited(&millis.map(Duration::from_millis));
        assert!(rounds([900, 1000, 1000]) && rounds([1, 990, 1010]) && rounds([20, 700, 1200]));
        assert!(!rounds([1, 1, 1]) && !rounds([900, 1, 1]) && !rounds([300, 300, 300]) && !rounds([1, 990, 1]));
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
