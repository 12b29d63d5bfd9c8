//! A cluster store that an older build has left, in every state it can be in: what was promised there is kept
//! by this build. `README.md` says how the stores were made.

mod actors;
mod baseline;
mod expected;
mod fixture;
mod format1;
mod handled;
mod snapshot;
#[path = "../support/mod.rs"]
mod support;
