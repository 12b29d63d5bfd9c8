//! What products need besides actors, and what Redis was used for by hand: schedules, locks, topics,
//! sessions, live connections, limits, batches. Most of it is made of actors of Greenroom's own, so that
//! it is as durable, ordered and exactly counted as whatever else an actor does, on either store.
//!
//! Invariant: a built-in actor's kind begins with [`RESERVED`], and no feature may have such a kind.

pub mod batch;
pub mod limit;
pub mod live;
pub mod lock;
pub mod schedule;
pub mod session;
pub mod topic;

use std::sync::Arc;

use crate::{error::Result, feature::Feature};

/// What the kinds of built-in actors begin with.
pub(crate) const RESERVED: &str = "greenroom_";

/// The actors that every node runs besides those of its features.
pub(crate) fn builtin(features: &[Feature]) -> Result<Feature> {
    let topics = Arc::new(topic::Registry::of(features)?);
    Ok(Feature::default()
        .actor(schedule::actor(features)?)
        .actor(topic::Topics::new(topics.clone()))
        .actor(topic::Pages)
        .actor(topic::Refused::new(topics))
        .actor(lock::Lock)
        .actor(batch::whole::Whole)
        .actor(batch::page::Page)
        .actor(live::channel::Channel))
}
