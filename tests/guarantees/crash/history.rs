//! The clients' own history: a file that the server knows nothing of. A line is written before a
//! request is first sent, and another when its `202` arrived.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// Step `step` of order number `order` is about to be sent.
    Sent { order: u64, step: usize },
    /// It was promised, as request `request`; the order is called `id`.
    Promised { order: u64, step: usize, request: String, id: String },
}

/// The file, while it is written.
pub(super) type History = crate::support::history::History<Event>;

/// The file, when all is over.
pub(super) fn read(path: &Path) -> Vec<Event> {
    crate::support::history::read(path)
}
