//! The product's features from outside: HTTP in, effect out, against the real binary.

#[path = "../support/mod.rs"]
mod support;

mod approvals;
mod limits;
mod orders;
mod schedules;
mod sessions;
