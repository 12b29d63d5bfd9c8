//! The life of a message on a node: read → activate → handle → commit → deliver.
//!
//! * [`node`] is the handle; [`requests`] what became of a message, [`overview`] who runs what,
//!   a [`story`] all that a journal tells; [`replay`] tries another build on the journals of a store.
//! * [`arbiters`] are the threads and the partitions open on them; the [`supervisor`] watches the
//!   threads; a [`tenure`] is one owner's time with a partition. One at a time runs [`alone`] what may have ended
//!   the process before.
//! * A [`partition`] is opened and closed; its [`reader`] and what is [`due`] are read as its [`lanes`] have
//!   room, [`distribute`] hands messages to [`activation`]s, which work in [`turn`]s of [`handle`]d commands,
//!   passing the [`gate`] of a limited kind first, decide the [`fate`] of each and [`settle`] them; the
//!   [`commit`]ter groups what they did; [`deliver`] tells whoever waits, [`early`] where the store decides before it is done, and other
//!   actors are [`told`].
//! * [`cancel`] races none of it, and a [`sweep`] is many of those; what is [`pausing`] begins nothing.
//! * [`nodes`] is being one of several: it beats and carries out its [`plan`], by [`assign`]ment;
//!   [`others`] is what is known of them, [`post`] and [`letter`] how they talk.

pub(crate) mod activation;
mod alone;
pub(crate) mod apart;
pub(crate) mod arbiters;
pub(crate) mod assign;
pub(crate) mod begun;
pub mod broadcast;
pub(crate) mod builds;
pub mod bulk;
pub(crate) mod cancel;
pub(crate) mod commit;
pub(crate) mod deliver;
pub(crate) mod distribute;
pub(crate) mod due;
pub(crate) mod early;
pub(crate) mod fate;
pub mod faults;
pub(crate) mod fetch;
pub(crate) mod gate;
pub(crate) mod handle;
pub(crate) mod journaled;
pub(crate) mod kind;
pub(crate) mod lane;
pub(crate) mod lanes;
pub(crate) mod leaving;
pub(crate) mod letter;
pub mod node;
pub(crate) mod nodes;
pub(crate) mod notes;
pub(crate) mod others;
pub mod outside;
pub mod overview;
pub(crate) mod pages;
pub(crate) mod partition;
pub(crate) mod pausing;
pub(crate) mod plan;
pub(crate) mod post;
pub(crate) mod reader;
pub(crate) mod replay;
pub(crate) mod requests;
pub(crate) mod room;
pub mod settings;
pub(crate) mod settle;
pub(crate) mod shared;
pub(crate) mod slot;
pub mod story;
pub(crate) mod supervisor;
pub mod sweep;
pub(crate) mod tenure;
pub(crate) mod told;
pub(crate) mod turn;
mod turnstile;
pub(crate) mod usage;
pub mod view;

#[cfg(test)]
mod tests;
