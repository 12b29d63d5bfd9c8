//! Limits of HTTP requests: who may ask for what how often, and telling them how much is left.
//!
//! ```text
//! front ─► cors ─► layer ─► rules (which apply) ─► identity (who asks) ─► the node's limits ─► fields
//!                    │                                                        │
//!                    └─► the feature's handler                    refused ────┴─► 429, a problem
//! ```
//!
//! Invariant: without a rule nothing of this is in the way of a request; and what an operator or a load
//! balancer needs is never limited.

pub(crate) mod admin;
mod fields;
mod identity;
pub(crate) mod layer;
mod rules;

pub(crate) use self::{fields::EXPOSED, rules::Rules};
pub use self::{
    identity::{Identify, Identity, Network},
    rules::{Rule, Settings, Who},
};
