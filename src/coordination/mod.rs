//! What products need besides actors, and what Redis was used for by hand: schedules, locks, topics,
//! sessions, live connections, limits, batches. Most of it is made of actors of Greenroom's own, so that
//! it is as durable, ordered and exactly counted as whatever else an actor does, on either store.
//!
//! Invariant: a built-in actor's kind begins with [`RESERVED`], and no feature may have such a kind.

pub mod batch;
pub mod lock;

use crate::feature::Feature;

/// What the kinds of built-in actors begin with.
pub(crate) const RESERVED: &str = "greenroom_";

/// The actors that every node runs besides those of its features.
pub(crate) fn builtin(features: &[Feature]) -> Feature {
    let _ = features;
    Feature::default().actor(lock::Lock).actor(batch::whole::Whole).actor(batch::page::Page)
}
