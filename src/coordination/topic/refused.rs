//! Events that a group could make nothing of. Each is a message to an actor that tries once more, which
//! makes it a dead letter: listed with its reason, and redriven when a build can do better.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    declare::{Kept, Registry},
    parse_shard, shard_key,
};
use crate::{
    actor::Actor,
    context::Context,
    error::{Error, Result},
    retry::Retry,
    runtime::handle::UNDECODABLE,
};

/// An event for one group.
#[derive(Serialize, Deserialize)]
pub(crate) struct Deliver {
    sequence: u64,
    at: i64,
    key: String,
    event: Box<RawValue>,
}

impl Deliver {
    pub(super) fn of(kept: &Kept<'_>) -> Self {
        let Kept { sequence, at, key, value, .. } = *kept;
        Self { sequence, at, key: key.to_owned(), event: value.to_owned() }
    }
}

/// The groups, each with what it could make nothing of.
pub(crate) struct Refused {
    registry: Arc<Registry>,
}

impl Refused {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

impl Actor for Refused {
    const KIND: &'static str = "greenroom_subscription";
    type State = ();
    type Command = Deliver;
    type Reply = ();

    async fn handle(&self, _: &mut (), event: Deliver, cx: &Context<Self>) -> Result<()> {
        let (shard, group) = cx.key().rsplit_once('/').unwrap_or_default();
        let (topic, shard) = parse_shard(shard).unwrap_or_default();
        let Some(route) = self.registry.route(topic, group) else {
            let why = format!("this build does not know group {group:?} of topic {topic:?}");
            return Err(Error::terminal(why).code(UNDECODABLE));
        };
        let Deliver { sequence, at, key, event } = &event;
        let tells = route(&Kept { shard, sequence: *sequence, at: *at, key, value: event }).map_err(|error| {
            // A terminal one would end the message: it must stay, to be redriven.
            match error.is_terminal() && !error.has_code(UNDECODABLE) {
                true => Error::new(error.to_string()).code("refused"),
                false => error,
            }
        })?;
        for (to, command) in tells {
            cx.send(to, command);
        }
        Ok(())
    }

    fn retry(&self) -> Retry {
        Retry::times(1)
    }
}

/// The key of a group's actor.
pub(super) fn key(topic: &str, shard: u16, group: &str) -> String {
    format!("{}/{group}", shard_key(topic, shard))
}
