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
pub mod trace;

pub use {
    actor::{Actor, Waits},
    address::{Address, At},
    app::App,
    context::Context,
    coordination::{batch::BatchDone, lock::guard::Guard},
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
        Actor, Address, App, At, Context, Error, Feature, Index, Key, Node, Page, Query, RequestId, Result, Retry,
        Secret, Waits,
    };
}

/// The code of docs/WORKFLOWS.md is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/WORKFLOWS.md")]
mod workflows {}
