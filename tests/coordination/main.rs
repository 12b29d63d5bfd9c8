//! What products need besides actors: being told how something ended, forgetting, broadcasts, and what is
//! built on them. `GREENROOM_TEST_STORE` says on which store.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod bulk;
mod hammered;
mod live;
mod locks;
mod schedules;
mod told;
mod topic;
