//! Limits over all nodes as handlers and the runtime keep them: waiting for tokens and permits, commands
//! of a limited kind, and processes that die while they hold a permit. `GREENROOM_TEST_STORE` says on
//! which store.

#[path = "../support/mod.rs"]
mod support;

mod killed;
mod kinds;
mod outage;
mod outside;
mod waiting;
mod worker;
