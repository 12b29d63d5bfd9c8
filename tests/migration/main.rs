//! A cluster store that an older build has left, in every state it can be in: what was promised there is kept
//! by this build. `README.md` says how the stores were made.

mod actors;
mod expected;
mod fixture;
mod handled;
mod in_place;
mod offline;
mod old;
mod snapshot;
#[path = "../support/mod.rs"]
mod support;
