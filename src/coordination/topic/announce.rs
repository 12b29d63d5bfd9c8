//! A node that starts tells the shards of its topics which groups it knows. What is known already is not
//! told again, so a start that changes nothing writes nothing.
//!
//! Invariant: nothing is ever taken back here. Another build may still know a group that this one does not.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tracing::warn;

use super::{
    Keep,
    actor::{Command, Topics},
    declare::{Declared, Registry},
    log::{Log, Reader},
    shard_key, steer, tidy,
};
use crate::{
    actor::Actor,
    address::Address,
    backend::{Append, document},
    context::Context,
    envelope::Envelope,
    error::Result,
    runtime::shared::Shared,
};

/// When it is tried again what the store could not do.
const AGAIN: Duration = Duration::from_secs(1);

/// What a build says of a topic.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Declare {
    shards: u16,
    keep: Keep,
    groups: Vec<Known>,
}

/// A group that a build knows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    name: String,
    /// It begins with what comes, if it is new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    from_now: bool,
}

impl Declare {
    fn of(topic: &Declared) -> Self {
        let known = |(group, _): &(super::Group, _)| Known { name: group.name.clone(), from_now: group.from_now };
        let keep = Keep { bytes: topic.keep.bytes / u64::from(topic.shards.max(1)), ..topic.keep };
        Self { shards: topic.shards, keep, groups: topic.groups.values().map(known).collect() }
    }

    /// Whether a shard knows all of it, and all groups go on.
    fn is_known(&self, log: &Log) -> bool {
        let goes_on = |reader: &Reader| reader.next.is_none() || reader.paused;
        (log.shards, log.keep) == (self.shards, self.keep)
            && self.groups.iter().all(|group| log.groups.get(&group.name).is_some_and(goes_on))
    }
}

/// Tells the shards, in the background.
pub(crate) fn announce(registry: Registry, shared: Arc<Shared>) {
    actix::spawn(async move {
        for (name, topic) in &registry.topics {
            let declare = Declare::of(topic);
            while !shared.draining() {
                match tell(&shared, name, &declare).await {
                    Ok(()) => break,
                    Err(error) => warn!(topic = name, %error, "a topic could not be declared, trying again"),
                }
                shared.clock.sleep(AGAIN).await;
            }
        }
    });
}

/// Tells each shard of a topic that does not know it.
async fn tell(shared: &Shared, topic: &str, declare: &Declare) -> Result<()> {
    let shards = (0..declare.shards).map(|shard| Address::new(Topics::KIND, &shard_key(topic, shard)));
    let shards: Vec<Address> = shards.collect::<Result<_>>()?;
    let saved = shared.backend.load(shards.clone()).await?;
    let mut batch = Vec::new();
    for (to, saved) in shards.into_iter().zip(saved) {
        if !declare.is_known(&document::decode(&saved.doc)?) {
            let command = to_raw_value(&Command::Declare(declare.clone()))?;
            let envelope = Envelope { command, accepted: shared.clock.now(), note: None, ..Envelope::empty(to) };
            batch.push(Append { envelope, due: None, idempotency: None, fence: None });
        }
    }
    for appended in shared.backend.append(batch).await {
        appended?;
    }
    Ok(())
}

/// A shard is told.
pub(super) fn declared(log: &mut Log, declare: Declare, cx: &Context<Topics>) {
    log.shards = declare.shards;
    if std::mem::replace(&mut log.keep, declare.keep) != declare.keep {
        tidy::again(log, cx);
    }
    let (oldest, last, since) = (log.oldest(), log.last, if log.last > log.gone { log.at } else { 0 });
    for Known { name, from_now } in declare.groups {
        if !log.groups.contains_key(&name) {
            let mut reader = Reader::default();
            reader.begin(if from_now { last + 1 } else { oldest }, since, last);
            Arc::make_mut(&mut log.groups).insert(name.clone(), reader);
        }
        // One that waits for this very build need not wait any longer, if the build runs this shard too.
        steer::go_on(log, &name, cx);
    }
}
