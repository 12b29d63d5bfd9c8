//! Pushing an event to whoever has a connection of a channel open: with a commit, or from outside.
//!
//! Invariant: what is pushed can be kept, posted and sent; what cannot is refused here, by whoever pushes it.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    channel::{Channel, Command, append},
    line::one_line,
};
use crate::{
    actor::Actor,
    context::Context,
    error::{Error, Result},
    runtime::{node::Node, shared::Shared},
};

/// The longest name of an event, in bytes.
const MAX_NAME: usize = 64;
/// What a connection itself says, and what an `EventSource` says without having been told.
const OURS: [&str; 7] = ["ready", "gap", "moving", "accepted", "refused", "error", "open"];

impl<A: Actor> Context<A> {
    /// Pushes an event to everybody who has a connection of `channel` open, on all nodes, once this
    /// commits: it is then durable, and the events of one channel are in one order for all. Whoever is
    /// away gets it when coming back, as long as the channel keeps it (`[live]` in `config.toml`).
    ///
    /// The command fails with a terminal error when the channel's name is no key, the event's name is not
    /// 1 to 64 of `A-Z a-z 0-9 . _ -` or one of Greenroom's own (`ready`, `gap`, …), or the value has more
    /// bytes of JSON than `live.event_bytes`.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # fn paid<A: Actor>(cx: &Context<A>, order: &str) {
    /// cx.push("user-7", "paid", &serde_json::json!({ "order": order }));
    /// # }
    /// ```
    pub fn push(&self, channel: &str, event: &str, value: &impl Serialize) {
        match command(&self.journal().shared, event, value) {
            Ok(command) => drop(self.tell(Channel::at(channel), command)),
            Err(error) => self.refuse(error),
        }
    }
}

impl Node {
    /// Like [`Context::push`], from outside of any actor. Returns once the event is durable; retryable
    /// error when it cannot be now.
    pub async fn push(&self, channel: &str, event: &str, value: &impl Serialize) -> Result<()> {
        let shared = self.shared();
        let command = command(shared, event, value)?;
        let append = append(channel, &command, shared.clock.now())?;
        if shared.draining() {
            return Err(Error::new("this node is draining"));
        }
        let appended = shared.backend.append(vec![append]).await.pop();
        appended.ok_or_else(|| Error::new("the store gave no answer"))??;
        Ok(())
    }
}

fn command(shared: &Shared, event: &str, value: &impl Serialize) -> Result<Command> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if event.is_empty() || event.len() > MAX_NAME || !event.bytes().all(fine) {
        let what = "the name of an event has 1 to 64 of A-Z a-z 0-9 . _ -";
        return Err(Error::terminal(format!("{what}, {event:?} has not")).code("bad_event"));
    }
    if OURS.contains(&event) {
        let why = format!("an event cannot be called {event:?}: connections say that themselves");
        return Err(Error::terminal(why).code("bad_event"));
    }
    let value: Box<RawValue> = one_line(to_raw_value(value)?);
    let (bytes, most) = (value.get().len(), shared.settings.live.event_bytes);
    if bytes > most {
        let why = format!("{bytes} bytes are too many for an event, at most {most} are: say where it is instead");
        return Err(Error::terminal(why).code("bad_event"));
    }
    Ok(Command::Push { event: event.to_owned(), value })
}
