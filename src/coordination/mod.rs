//! What nodes and their clients do together.

pub mod session;
