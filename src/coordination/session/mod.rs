//! Sessions of people at their browsers: who somebody is and a little more, kept in the store under a
//! signed cookie, until it is not used, too old, logged out or revoked.
//!
//! ```text
//! request ─► id (a signed cookie, refused without asking the store) ─► origin (state-changing: same origin)
//!         ─► one read ─► the handler: Session or LoggedIn ─► answer: changes are written, then the cookie
//! ```
//!
//! * [`Session`], [`LoggedIn`]: what a handler takes from a request.
//! * [`Sessions`]: for code outside of a request, by [`Node::sessions`](crate::Node::sessions).
//! * [`Settings`]: `[session]` in the configuration.
//!
//! Invariants: an id that was given out before a login opens nothing after it; a request never loses
//! what another one wrote; what a handler changed is stored before its client reads the answer.

mod answer;
mod data;
mod extract;
mod id;
mod keys;
mod login;
mod origin;
mod request;
mod sessions;
mod settings;

pub(crate) use self::answer::settled;
pub use self::{
    extract::LoggedIn,
    login::Era,
    request::Session,
    sessions::{SessionInfo, Sessions},
    settings::{Secure, Settings},
};
