//! Limits over all nodes: tokens in a time, quotas by the window, and how many at once.
//!
//! ```text
//! cx.limit, cx.run(…).limit/permit ─┐
//! node.limits()                     ├─► Limits ─► ahead (known here?) ─► store: one bucket for all nodes
//! commands of a kind ─► gate        │      └────► permits (a line, renewed)
//! HTTP requests ─► gateway          ┘
//! ```
//!
//! * A [`Limit`] is declared by a feature, a kind or `config.toml`, and checked when the node starts
//!   (`declared`); a `book` counts it for metrics and operators.
//! * [`Limits`] is the handle for whoever is no actor. A limit is asked for by its name, or by
//!   `name/who`: then each `who` has a bucket of its own.
//! * `draw` takes tokens, `ahead` answers what this node knows without asking; `admit` takes permits, which
//!   are held, renewed and waited for in `permits`.
//! * `wait` is how a command waits without holding anything, `gate` what commands of a kind pass.

pub(crate) mod admit;
pub(crate) mod ahead;
pub(crate) mod book;
pub(crate) mod declared;
pub(crate) mod draw;
pub(crate) mod gate;
pub(crate) mod handle;
pub(crate) mod permits;
pub(crate) mod view;
pub(crate) mod wait;

pub use self::{
    book::Watched,
    declared::{Limit, Unavailable},
    handle::{Declarations, Limits},
    permits::Permit,
    view::LimitView,
    wait::Tokens,
};
pub use crate::backend::limits::Taken;
