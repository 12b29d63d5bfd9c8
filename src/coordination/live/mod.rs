//! Live connections: events that actors push reach whoever has a connection open (a WebSocket, or a stream
//! of server-sent events), on whichever node; and whoever comes back, on any node, gets exactly what was
//! missed, in order, once.
//!
//! ```text
//! cx.push ─► channel (an actor) ──post──► hub of each node that follows ─► feed ─► connections
//!            numbers its events,  at most  looks into the ring when it    keeps    ws, sse
//!            keeps the last ones    once   begins, at a gap, now and then  order
//!            in a ring
//! ```
//!
//! * [`push`] is how events leave, with a commit or from outside; [`channel`] is the actor, its [`ring`] the
//!   last events, a [`mark`] a place among them, and what clients are given to resume from.
//! * [`hub`] is a node's directory of its connections, [`feed`] one channel of it; [`look`] is what the
//!   store said, [`follow`] one connection's way through all that; [`said`] is what is said between nodes.
//! * [`program`] is following from within a program.
//! * [`directory`] is the whole picture, for operators.
//!
//! Invariant: the ring is the truth, and what is posted only makes it quick. A connection is given event
//! n + 1 after event n and nothing else; where that cannot be, it is told so (G13).

pub(crate) mod channel;
pub mod directory;
pub(crate) mod feed;
pub(crate) mod follow;
pub(crate) mod hub;
pub(crate) mod line;
pub(crate) mod look;
pub(crate) mod mark;
pub mod program;
mod push;
pub(crate) mod ring;
pub(crate) mod said;
pub mod settings;
#[cfg(test)]
mod tests;
