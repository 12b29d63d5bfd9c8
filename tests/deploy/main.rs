//! The load balancers of `deploy/`, run as they are shipped, with other addresses: a client comes back to
//! its node, goes elsewhere without a failed request when that drains, and the node is used again.

#[path = "../support/mod.rs"]
mod support;

mod balancer;
mod browser;
mod nodes;
mod passing;
mod rolling;
mod sticking;
