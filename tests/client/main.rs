//! The Redis client against real servers that fail: slots on their way, shards that stall, masters that die,
//! certificates that are wrong, disks that are not waited for, calls whose answers are lost.

#[path = "../support/mod.rs"]
mod support;

mod durability;
mod failover;
mod injected;
mod libraries;
mod moving;
mod stalled;
mod store;
mod tls;
