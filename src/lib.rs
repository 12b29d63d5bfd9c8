//! Greenroom: durable actors for product backends.

pub mod actor;
pub mod address;
pub mod app;
pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod coordination;
pub mod durable;
pub mod ended;
pub mod envelope;
pub mod error;
pub mod feature;
pub mod gateway;
pub mod logging;
pub mod metrics;
pub mod query;
pub mod request;
pub mod retry;
pub mod runtime;
pub mod testing;
pub mod tls;
pub mod trace;

pub use {
    actor::{Actor, Priority, Waits},
    address::{Address, At},
    app::App,
    context::Context,
    coordination::{
        batch::BatchDone,
        limit::Limit,
        lock::guard::Guard,
        schedule::{Missed, Overlap, Schedule},
        topic::{self, Event, Topic},
    },
    durable::{Ask, Key, Run, Secret, Signal},
    ended::{End, Ended},
    error::{Error, Result},
    feature::Feature,
    query::{Index, Page, Query},
    request::RequestId,
    retry::Retry,
    runtime::node::Node,
};

/// What a feature's files import.
pub mod prelude {
    pub use crate::{
        Actor, Address, App, At, Context, Error, Event, Feature, Index, Key, Limit, Missed, Node, Overlap, Page,
        Priority, Query, RequestId, Result, Retry, Schedule, Secret, Topic, Waits,
    };
}

/// The code of docs/LIMITS.md is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/LIMITS.md")]
mod limits {}

/// The code of docs/SESSIONS.md is compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/SESSIONS.md")]
mod sessions {}

/// The code of docs/LOCKS.md, docs/BULK.md and docs/FAIRNESS.md is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/LOCKS.md")]
#[doc = include_str!("../docs/BULK.md")]
#[doc = include_str!("../docs/FAIRNESS.md")]
mod coordinating {}

/// The code of docs/LIVE.md is compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/LIVE.md")]
mod live {}

/// The code of docs/WORKFLOWS.md is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/WORKFLOWS.md")]
mod workflows {}

/// So is that of docs/SCHEDULES.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/SCHEDULES.md")]
mod schedules {}

/// And that of docs/TOPICS.md.
#[cfg(doctest)]
#[doc = include_str!("../docs/TOPICS.md")]
mod topics {}
