//! The actor behind a channel: numbers its events, keeps the last ones, and knows which nodes follow.
//!
//! Invariant: an event is in the ring, under the next number, before any node is told of it; and a node
//! that has been told where it follows from ([`Said::Head`]) is told of every event after that, though each
//! telling may be lost. So whoever looks into the ring after that misses nothing, however the two race.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    mark::Mark,
    ring::{Kept, Ring},
    said::Said,
};
use crate::{
    actor::Actor,
    backend::Append,
    context::Context,
    envelope::Envelope,
    error::Result,
    runtime::{others::Others, shared::Shared},
};

/// A node that is not among the members is gone, unless it followed only just now: whoever runs the channel
/// may not have heard of a new node yet. In milliseconds.
const NEW: i64 = 60_000;
/// How often a channel that nobody pushes to looks whether the nodes that follow it are still there.
const LOOK: i64 = 15 * 60_000;

/// The actors of all channels; the key is the channel's name.
pub(crate) struct Channel;

/// What one channel remembers. Its names are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Where it is; `None` before its first command. The life is that command's position, which no other
    /// command ever had.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<Mark>,
    #[serde(rename = "r", default, skip_serializing_if = "Ring::is_empty")]
    pub(crate) ring: Ring,
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) followers: Vec<Follower>,
    /// When it sweeps next, in milliseconds since the Unix epoch.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) sweep: Option<i64>,
}

/// A node that has connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Follower {
    #[serde(rename = "n")]
    pub(crate) node: u64,
    /// Since when, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    pub(crate) since: i64,
}

/// What a channel is told. Its names are stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// An event for whoever listens.
    Push {
        #[serde(rename = "e")]
        event: String,
        #[serde(rename = "v")]
        value: Box<RawValue>,
    },
    /// This node has a connection: tell it where you are, and then of every event.
    Attach {
        #[serde(rename = "n")]
        node: u64,
    },
    /// This node has no connection any more.
    Detach {
        #[serde(rename = "n")]
        node: u64,
    },
    /// Time has passed: drop what is too old, and forget yourself if nothing is left.
    Sweep,
}

impl Actor for Channel {
    const KIND: &'static str = "greenroom_channel";
    type State = State;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, state: &mut State, command: Command, cx: &Context<Self>) -> Result<()> {
        let shared = cx.journal().shared.clone();
        let (channel, now) = (cx.key(), shared.clock.now());
        let settings = &shared.settings.live;
        let head = state.head.get_or_insert(Mark { life: cx.about.position.packed() as u64, n: 0 });
        match command {
            Command::Push { event, value } => {
                head.n += 1;
                let mark = *head;
                let text = value.get().to_owned();
                state.ring.push(Kept { n: mark.n, at: now, event: event.clone(), value: text });
                state.ring.trim(settings, now);
                state.followers.retain(|follower| follower.is_there(&shared, channel, now));
                let nodes: Vec<u64> = state.followers.iter().map(|follower| follower.node).collect();
                if !nodes.is_empty() {
                    cx.cast(Said::Event { channel: channel.into(), mark, event, value }.cast()?.only(nodes));
                }
            }
            Command::Attach { node } => {
                if !state.followers.iter().any(|follower| follower.node == node) {
                    state.followers.push(Follower { node, since: now });
                }
                cx.cast(Said::Head { channel: channel.into(), mark: *head }.cast()?.only(vec![node]));
            }
            Command::Detach { node } => state.followers.retain(|follower| follower.node != node),
            Command::Sweep => {
                // Else it is one that an earlier one has made needless.
                state.sweep = state.sweep.filter(|due| *due > now);
                state.followers.retain(|follower| follower.is_there(&shared, channel, now));
            }
        }
        state.ring.trim(settings, now);
        if state.ring.is_empty() && state.followers.is_empty() {
            cx.forget();
        } else {
            // When all of the ring will be too old if nothing more comes: one timer a ring's age, however
            // much is pushed meanwhile.
            let age = settings.ring_age.as_millis().min(i64::MAX as u128) as i64;
            let due = state.ring.newest().map_or(now.saturating_add(LOOK), |newest| newest.at.saturating_add(age));
            if state.sweep.is_none_or(|known| due < known) {
                state.sweep = Some(due);
                cx.tell(cx.me(), Command::Sweep).at(due);
            }
        }
        Ok(())
    }
}

/// A command for a channel that no other actor tells it.
pub(crate) fn append(channel: &str, command: &Command, now: i64) -> Result<Append> {
    let to = Channel::at(channel).address()?;
    let envelope = Envelope { command: to_raw_value(command)?, accepted: now, ..Envelope::empty(to) };
    Ok(Append { envelope, due: None, idempotency: None, fence: None })
}

impl Follower {
    /// Whether the node still follows, as far as can be seen here: of this one that is known, of others
    /// only whether they are there.
    fn is_there(&self, shared: &Shared, channel: &str, now: i64) -> bool {
        if self.node == shared.backend.me() {
            return shared.live.follows(channel);
        }
        let is_member = |others: &Others| others.members().iter().any(|member| member.id == self.node);
        now < self.since.saturating_add(NEW) || shared.others.as_ref().is_some_and(is_member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_never_changes_its_names() {
        let value = RawValue::from_string(r#"{"a":[1, 2]}"#.into()).unwrap();
        let commands = [
            (Command::Push { event: "paid".into(), value }, r#"{"push":{"e":"paid","v":{"a":[1, 2]}}}"#),
            (Command::Attach { node: 7 }, r#"{"attach":{"n":7}}"#),
            (Command::Detach { node: 7 }, r#"{"detach":{"n":7}}"#),
            (Command::Sweep, r#""sweep""#),
        ];
        for (command, text) in commands {
            assert_eq!(serde_json::to_string(&command).unwrap(), text);
            let read: Command = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let mut state = State {
            head: Some(Mark { life: 9, n: 2 }),
            followers: vec![Follower { node: 3, since: 5 }],
            sweep: Some(8),
            ..State::default()
        };
        state.ring.push(Kept { n: 2, at: 4, event: "e".into(), value: "1".into() });
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text, r#"{"h":{"l":9,"n":2},"r":[{"n":2,"t":4,"e":"e","v":"1"}],"f":[{"n":3,"t":5}],"s":8}"#);
        let doc = crate::backend::document::encode(&state, 1 << 20).unwrap();
        assert_eq!(crate::backend::document::decode::<State>(&doc).unwrap(), state);
        assert_eq!(serde_json::from_str::<State>("{}").unwrap(), State::default());
    }
}
