//! The actor that is a shard of a topic: it takes events, and is the only one that sends them on.
//!
//! Invariant: no command here fails for a reason that may pass. What cannot be done now is done by a
//! command to itself, later, so that one group, or one page, never holds up the shard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    announce::{self, Declare},
    behind,
    declare::{Kept, Registry, Route},
    log::Log,
    publish,
    refused::{self, Refused},
    steer::{self, Steer},
    tidy,
};
use crate::{
    actor::Actor,
    context::{Context, Tell},
    ended::Ended,
    error::{Error, Result},
    query::Index,
    runtime::handle::UNDECODABLE,
};

/// The shards of all topics.
pub(crate) struct Topics {
    pub(super) registry: Arc<Registry>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Command {
    /// An event.
    Publish { key: String, event: Box<RawValue> },
    /// A build knows these groups.
    Declare(Declare),
    /// A group that is behind gets what comes next.
    Go { group: String, turn: u64 },
    /// The last of what a group got has been handled.
    Handled { group: String, turn: u64, ended: Ended },
    /// An operator's wish.
    Steer { group: String, how: Steer },
    /// What is old goes: by the clock at `due`, or because there is too much.
    Tidy { due: Option<i64> },
}

impl Topics {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

impl Actor for Topics {
    const KIND: &'static str = "greenroom_topic";
    type State = Log;
    type Command = Command;
    /// The number of an event: the one that was published, or the next one of a group.
    type Reply = u64;

    async fn handle(&self, log: &mut Log, command: Command, cx: &Context<Self>) -> Result<u64> {
        log.named(cx.key())?;
        match command {
            Command::Publish { key, event } => publish::publish(self, log, &key, &event, cx)?,
            Command::Declare(declare) => announce::declared(log, declare, cx),
            Command::Go { group, turn } | Command::Handled { group, turn, .. } => {
                behind::go(self, log, &group, turn, cx).await;
            }
            Command::Steer { group, how } => return steer::steer(log, &group, how, cx).await,
            Command::Tidy { due } => tidy::tidy(log, due, cx).await,
        }
        Ok(log.last)
    }

    fn indexes() -> Vec<Index> {
        vec![Index::on(["topic"])]
    }
}

/// What became of an event for a group.
pub(super) enum Delivered<'a> {
    /// The last of its commands, if it became any, and the bytes of all.
    To(Option<Tell<'a>>, usize),
    /// This build cannot read it.
    Unread(Error),
}

/// Tells a group's actors of an event, or the dead letters, if nothing can be made of it.
pub(super) fn deliver<'a>(
    log: &Log,
    group: &str,
    route: &Route,
    kept: &Kept<'_>,
    cx: &'a Context<Topics>,
) -> Delivered<'a> {
    match route(kept) {
        Ok(tells) => {
            cx.journal().shared.metrics.topic_delivered(&log.topic, group);
            let (mut last, mut bytes) = (None, 0);
            for (to, command) in tells {
                bytes += command.get().len();
                last = Some(cx.send(to, command));
            }
            Delivered::To(last, bytes)
        }
        Err(error) if error.has_code(UNDECODABLE) => Delivered::Unread(error),
        Err(_) => {
            refuse(log, group, kept, cx);
            Delivered::To(None, kept.value.get().len())
        }
    }
}

/// Makes a dead letter of an event that a group can make nothing of.
pub(super) fn refuse(log: &Log, group: &str, kept: &Kept<'_>, cx: &Context<Topics>) {
    cx.tell(Refused::at(refused::key(&log.topic, log.shard, group)), refused::Deliver::of(kept));
}
