//! The checkout of `examples/checkout`, killed wherever it can be: a real process with SIGKILL at every
//! boundary, and a world of the test kit at every named point.

#[path = "../support/mod.rs"]
mod support;

mod killed;
#[path = "../../examples/checkout/shop.rs"]
mod shop;
#[allow(dead_code)]
#[path = "../../examples/checkout/vendors.rs"]
mod vendors;
mod world;
