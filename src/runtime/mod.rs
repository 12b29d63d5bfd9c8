//! The life of a message on a node: read → activate → handle → commit → deliver.
//!
//! [`node`] is the handle; [`arbiters`] the threads; a [`partition`] reads its messages and hands
//! them to [`activation`]s, which work in [`turn`]s of [`handle`]d commands and [`settle`] them; the [`commit`]ter
//! groups what they did; [`deliver`] tells whoever waits; the [`supervisor`] watches the threads.

pub(crate) mod activation;
pub(crate) mod arbiters;
pub(crate) mod commit;
pub(crate) mod deliver;
pub mod faults;
pub(crate) mod handle;
pub(crate) mod kind;
pub mod node;
pub(crate) mod partition;
pub(crate) mod room;
pub mod settings;
pub(crate) mod settle;
pub(crate) mod shared;
pub(crate) mod supervisor;
pub(crate) mod turn;
pub mod view;
