//! How topics and their groups stand, and steering a group of all shards at once.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    actor::{Command, Topics},
    log::{Log, Reader},
    shard_key,
    steer::Steer,
};
use crate::{
    actor::Actor,
    backend::{Backend, document},
    error::{Error, Result},
    query::Query,
    runtime::node::Node,
};

/// Shards read at once.
const PAGE: usize = 100;

/// How a topic stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TopicView {
    /// Its name.
    pub topic: String,
    /// How many shards it has.
    pub shards: u16,
    /// Events that were ever published.
    pub events: u64,
    /// Events that are kept.
    pub kept: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest one came, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<i64>,
    /// Its groups, by name.
    pub groups: Vec<GroupView>,
}

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its name.
    pub group: String,
    /// What it does: in the shard where it does least.
    pub status: GroupStatus,
    /// Events that it has not had.
    pub lag: u64,
    /// How long the oldest of them has been there, in milliseconds; rather more than less.
    pub lag_ms: i64,
    /// Why it does not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What a group does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupStatus {
    /// It has had everything, and gets each event as it comes.
    Live,
    /// It gets what it has not had.
    CatchingUp,
    /// It cannot go on; it is tried again and again.
    Waiting,
    /// It is paused.
    Paused,
}

impl GroupView {
    fn of(group: &str, reader: &Reader, log: &Log, now: i64) -> Self {
        let status = match reader {
            Reader { paused: true, .. } => GroupStatus::Paused,
            Reader { next: None, .. } => GroupStatus::Live,
            Reader { why: Some(_), .. } => GroupStatus::Waiting,
            _ => GroupStatus::CatchingUp,
        };
        let lag = reader.next.map_or(0, |next| (log.last + 1).saturating_sub(next));
        let lag_ms = if lag > 0 { (now - reader.since).max(0) } else { 0 };
        Self { group: group.to_owned(), status, lag, lag_ms, why: reader.why.clone() }
    }

    /// Together with how it stands in another shard.
    fn with(self, other: Self) -> Self {
        Self {
            status: self.status.max(other.status),
            lag: self.lag + other.lag,
            lag_ms: self.lag_ms.max(other.lag_ms),
            why: self.why.or(other.why),
            ..self
        }
    }
}

impl Node {
    /// All topics, by name.
    pub async fn topics(&self) -> Result<Vec<TopicView>> {
        topics(&*self.shared.backend, None, self.shared.clock.now()).await
    }

    /// One topic; `None` when nothing was ever published to it, and no node declared it.
    pub async fn topic(&self, name: &str) -> Result<Option<TopicView>> {
        Ok(topics(&*self.shared.backend, Some(name), self.shared.clock.now()).await?.pop())
    }

    /// Does something to a group, in all shards of a topic. Terminal error (`unknown_group`) when there is
    /// none such. Some shards may have done it when another one fails: it can be said again.
    pub async fn steer_topic(&self, topic: &str, group: &str, how: Steer) -> Result<()> {
        let mut known = false;
        for log in shards(&*self.shared.backend, Some(topic)).await? {
            if log.groups.contains_key(group) {
                known = true;
                let command = Command::Steer { group: group.to_owned(), how };
                self.ask(Topics::at(shard_key(topic, log.shard)), command).await?;
            }
        }
        if known {
            return Ok(());
        }
        Err(Error::terminal(format!("topic {topic:?} has no group {group:?}")).code("unknown_group"))
    }
}

/// Topics by name.
pub(crate) async fn topics(backend: &dyn Backend, topic: Option<&str>, now: i64) -> Result<Vec<TopicView>> {
    let mut topics: BTreeMap<String, (TopicView, BTreeMap<String, GroupView>)> = BTreeMap::new();
    for log in shards(backend, topic).await? {
        let (view, groups) = topics.entry(log.topic.to_string()).or_default();
        view.topic = log.topic.to_string();
        view.shards = view.shards.max(log.shards).max(log.shard + 1);
        view.events += log.last;
        view.kept += log.last - log.gone;
        view.bytes += log.size();
        view.last_at = view.last_at.max((log.last > 0).then_some(log.at));
        for (name, reader) in log.groups.iter() {
            let here = GroupView::of(name, reader, &log, now);
            let all = match groups.remove(name) {
                Some(there) => there.with(here),
                None => here,
            };
            groups.insert(name.clone(), all);
        }
    }
    let with = |(view, groups): (TopicView, BTreeMap<String, GroupView>)| TopicView {
        groups: groups.into_values().collect(),
        ..view
    };
    Ok(topics.into_values().map(with).collect())
}

/// The shards of a topic, or of all, as they are saved.
pub(super) async fn shards(backend: &dyn Backend, topic: Option<&str>) -> Result<Vec<Log>> {
    let query = topic.map_or_else(Query::new, |topic| Query::new().eq("topic", topic)).limit(PAGE);
    let (mut logs, mut cursor): (Vec<Log>, Option<String>) = (Vec::new(), None);
    loop {
        let page = match &cursor {
            Some(cursor) => query.clone().after(cursor),
            None => query.clone(),
        };
        let (rows, next) = backend.query(Topics::KIND, page).await?;
        for (_, doc) in rows {
            logs.push(document::decode(&doc)?);
        }
        cursor = next;
        if cursor.is_none() {
            logs.sort_by_key(|log| log.shard);
            return Ok(logs);
        }
    }
}
