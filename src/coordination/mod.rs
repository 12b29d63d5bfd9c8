//! What nodes and actors agree on through their store, besides who runs what.
//!
//! * [`limit`]: how much of something may be used, over all nodes.

pub mod limit;
