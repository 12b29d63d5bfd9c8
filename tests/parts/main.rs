//! The real parts that other tests stand on do what those rely on: they answer, survive a kill with
//! their data, stop and go on, and break connections when told to.

#[path = "../support/mod.rs"]
mod support;

mod balance;
mod cluster;
mod mongo;
mod proxy;
mod redis;
mod shared;
mod tcp;
