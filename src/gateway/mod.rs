//! The HTTP gateway: answers `202 Accepted` once a message is durable, and tells how it ended.
//!
//! On the way of a request:
//!
//! ```text
//! server ─► front ─► routes ─► extract, decode ─► a feature's controller ─► intake ─► accepted
//!           identity, time,    checked values        decides the command    Node::accept   202
//!           panics, problems,  or a problem
//!           metrics, compress
//! ```
//!
//! * [`server`]: the supervised actor that owns the HTTP server; [`settings`] bounds it.
//! * [`intake`]: how a controller accepts a command; `idempotency`, `prefer`, `exchange` read
//!   the headers it honours; `accepted` makes the answer, `follow` waits for the end.
//! * [`extract`]: what a controller takes from a request, decoded and validated by [`decode`].
//! * [`problem`]: every error answer; [`problems`] lists their types.
//! * `requests`, `events`, `batches`: what became of a request, or of many; `signals`: what it waits for from outside.
//! * `dead_letters`, `schedules`, `topics`, `topic_events`, `locks`, `sessions`, `nodes`, `pauses`, `operations` behind
//!   `admin`: the operator's side.
//! * `health`, `docs`, `openapi`, `schemas`: about the gateway itself.
//! * `cookies`; `affinity`: the one by which a load balancer brings a client back to its node. Sessions are in
//!   [`coordination::session`](crate::coordination::session).
//! * [`limits`]: who may ask how often, and telling them what is left; only where rules are configured.
//! * [`live`]: connections that follow a channel; `connections` lists them for operators.

mod accepted;
mod admin;
mod affinity;
mod batches;
mod compress;
mod connections;
pub(crate) mod cookies;
mod dead_letters;
pub mod decode;
mod docs;
mod events;
mod exchange;
pub mod extract;
mod fencing;
mod follow;
mod front;
mod health;
mod idempotency;
pub mod intake;
pub mod limits;
pub mod live;
mod locks;
mod nodes;
mod openapi;
mod operations;
mod pauses;
mod prefer;
pub mod problem;
pub mod problems;
mod requests;
mod routes;
mod schedules;
mod schemas;
pub mod server;
mod sessions;
pub mod settings;
mod shared;
mod signals;
mod topic_events;
mod topics;

pub(crate) use admin::is_local_host;
pub use decode::Checked;
pub use extract::{Raw, Valid, ValidPath, ValidQuery};
pub use intake::{Acceptance, Intake};
pub use live::{Live, Told};
pub use problem::{Fault, Place, Problem};
pub use server::Gateway;
pub use settings::Settings;

#[cfg(test)]
mod tests;
