//! The guarantees of GUARANTEES.md, one file each, named by their ID.

#[path = "../support/mod.rs"]
mod support;

mod bells;
mod crash;
mod g01_kept;
mod g02_order;
mod g03_decided;
mod g03_one_effect;
mod g04_one_owner;
mod g05_steps;
mod g06_failures;
mod g07_time;
mod g10_bounded;
mod g11_ledger;
mod g12_bad_input;
mod g13_honest;
mod lanes;
mod tape;
