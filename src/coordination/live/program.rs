//! Following a channel from within a program: what HTTP clients get, for transports of one's own and for
//! tests. Invariant: the same as theirs, for it is the same way.

use super::{
    follow::{Follow, Next},
    hub::{Full, join},
    line::{Transport, Why},
    mark::{Bad, Mark},
};
use crate::{
    actor::Actor,
    coordination::live::channel::Channel,
    error::{Error, Result},
    runtime::node::Node,
};

/// What whoever follows a channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// From here on events come as they are pushed.
    Ready {
        /// To go on after this place.
        id: String,
    },
    /// An event.
    Event {
        /// To go on after it.
        id: String,
        /// Its name.
        event: String,
        /// Its value, as JSON.
        data: String,
    },
    /// Events before this place are missing: the channel does not keep them any more.
    Gap {
        /// To go on after this place.
        id: String,
    },
}

/// A channel that is followed for as long as this lives.
pub struct Following(Follow);

impl Following {
    /// What comes next. Nothing is lost when the future is dropped. Error `slow` when this did not keep up,
    /// and terminal error `disconnected` when it was disconnected; one that is slow may follow again after
    /// the last id.
    pub async fn next(&mut self) -> Result<Update> {
        let next = self.0.next().await;
        let id = |mark| self.0.token(mark);
        match next {
            Next::Ready(mark) => Ok(Update::Ready { id: id(mark) }),
            Next::Gap(mark) => Ok(Update::Gap { id: id(mark) }),
            Next::Event(frame) => Ok(frame.update()),
            Next::Over(Why::Slow) => Err(Error::new("whoever follows the channel is too slow").code("slow")),
            Next::Over(Why::Disconnected) => Err(Error::terminal("disconnected").code("disconnected")),
        }
    }
}

impl Node {
    /// Follows a channel: what is [pushed](Node::push) to it from now on, or after the place of this id.
    /// Terminal error when the channel's name is no key, or the id is none of its own; retryable error when
    /// there are too many connections already.
    pub fn follow(&self, channel: &str, after: Option<&str>) -> Result<Following> {
        Channel::at(channel).address()?;
        let shared = self.shared();
        let after = after.map(|id| Mark::read(id, channel, &shared.backend.secret())).transpose().map_err(|bad| {
            let why = match bad {
                Bad::Malformed => "expected the id of an event, 48 hexadecimal digits",
                Bad::Foreign => "this is no id of an event of this channel",
            };
            Error::terminal(why).code("bad_id")
        })?;
        match join(shared, channel, Transport::Program, after) {
            Ok(follow) => Ok(Following(follow)),
            Err(Full::Node) => Err(Error::new("this node has all the live connections it may have").code("full")),
            Err(Full::Channel) => Err(Error::new("the channel has all the connections it may have here").code("full")),
        }
    }
}
