//! What several nodes agree on without a lock: built of durable actors, so that a commit decides.

pub mod schedule;
