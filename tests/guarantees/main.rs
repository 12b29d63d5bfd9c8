//! The guarantees of GUARANTEES.md, one file each, named by their ID.

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod g01_kept;
mod g10_bounded;
mod g11_ledger;
mod g12_bad_input;
mod g13_honest;
