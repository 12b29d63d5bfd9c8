//! An event comes: published by a handler, with its commit, or from outside; written down by the shard, and
//! sent on to each group that has had everything before it.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    MAX_EVENT, Topic,
    actor::{Command, Delivered, Topics, deliver},
    behind,
    declare::Kept,
    log::Log,
    page::{self, Pages},
    shard_key, shard_of, tidy,
};
use crate::{
    actor::Actor,
    address::Address,
    context::Context,
    error::{Error, Result},
    request::RequestId,
    runtime::node::{Accept, Node},
    trace::Trace,
};

impl<A: Actor> Context<A> {
    /// Publishes an event when this commits; each group of the topic then gets it once. A key or an event
    /// that cannot be kept fails this command with a terminal error.
    ///
    /// Events of one key stay in order, as far as one actor publishes them.
    pub fn publish<T: Serialize>(&self, topic: Topic<T>, key: &str, event: &T) {
        match command(topic, key, event) {
            Ok((to, command)) => drop(self.send(to, command)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Node {
    /// Publishes an event from outside of any actor. Returns once it is durable. Terminal error when key or
    /// event cannot be kept.
    pub async fn publish<T: Serialize>(&self, topic: Topic<T>, key: &str, event: &T) -> Result<RequestId> {
        let (to, command) = command(topic, key, event)?;
        let trace = Some(Trace::start());
        let accept = Accept { to, command, due: None, trace, idempotency: None, fence: None, wait: false };
        Ok(self.accept(accept).await?.request)
    }
}

/// The command that publishes an event, and the shard it goes to.
fn command<T: Serialize>(topic: Topic<T>, key: &str, event: &T) -> Result<(Address, Box<RawValue>)> {
    // What a key of an actor may be, a key of an event may.
    Address::new(Topics::KIND, key).map_err(|e| e.context(format!("publishing to topic {:?}", topic.name)))?;
    let event = to_raw_value(event)?;
    if event.get().len() > MAX_EVENT {
        let bytes = event.get().len();
        return Err(Error::terminal(format!(
            "an event of {bytes} bytes is too large for topic {:?}, at most {MAX_EVENT} are: say where it is instead",
            topic.name
        )));
    }
    let to = Address::new(Topics::KIND, &shard_key(topic.name, shard_of(key, topic.shards)))?;
    Ok((to, to_raw_value(&Command::Publish { key: key.to_owned(), event })?))
}

/// Writes an event down, and sends it to whoever has had everything before.
pub(super) fn publish(topics: &Topics, log: &mut Log, key: &str, event: &RawValue, cx: &Context<Topics>) -> Result<()> {
    let at = cx.about.now.max(log.at);
    log.push(at, key, event)?;
    cx.journal().shared.metrics.topic_published(&log.topic);
    let kept = Kept { shard: log.shard, sequence: log.last, at, key, value: event };
    for (group, reader) in log.groups.clone().iter() {
        if reader.next.is_some() {
            continue;
        }
        match topics.registry.route(&log.topic, group) {
            Some(route) => {
                if let Delivered::Unread(error) = deliver(log, group, route, &kept, cx) {
                    behind::falls(log, group, &kept, error.to_string(), cx);
                }
            }
            None => behind::falls(log, group, &kept, behind::UNKNOWN.to_owned(), cx),
        }
    }
    if let Some(sealed) = log.seal()? {
        cx.tell(Pages::at(page::key(cx.key(), sealed.first)), page::Command::keep(cx.key(), sealed));
    }
    tidy::plan(log, cx);
    Ok(())
}
