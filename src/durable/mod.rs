//! Durable execution: commands that run steps, ask other actors, sleep and wait for signals, and go on
//! where they were after any crash.
//!
//! ```text
//! handler ─► cx.run / ask / sleep / signal ─► journal ─► written (one commit) ─► told ─► handler
//!                                               ▲
//!                      answers and signals (notes, in the key's own mailbox)
//! ```
//!
//! * [`journal`] is what a running command has written, and the one place where the order in which its
//!   handler gets to know of things is decided; an [`entry`] is one line of it, [`known`] an index of them.
//!   It has two sides: the handler's, and [`progress`], that of whoever runs it.
//! * [`run`] is a step, [`wait`] everything that waits for something from outside; each holds a
//!   [`ticket`], its operation in the journal.
//! * [`drive`] runs the handler, writes, and lets the command leave memory when it only waits.
//! * [`dry`] runs a handler against a journal without any effect, to see whether this build follows it.
//! * [`undo`] is what is done when a command fails: its compensations, last first.
//!
//! Running a command again after a crash is running its handler from the start: what is written is told
//! again in the order it was told first, so the handler takes the same way to where it was. What is begun
//! and not written is begun again, under the same idempotency key (G5).

pub(crate) mod drive;
pub(crate) mod dry;
pub(crate) mod entry;
pub(crate) mod journal;
mod known;
pub(crate) mod op;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod ticket;
pub(crate) mod undo;
pub(crate) mod wait;

pub use {
    run::{Key, Run},
    secret::Secret,
    wait::{Ask, Signal},
};
