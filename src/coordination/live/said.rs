//! What channels say to nodes, and nodes to each other, about live connections: a broadcast for some of
//! them, so at most once. Invariant: whoever does not know one of these, being of another build, drops it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{directory::Counted, mark::Mark};
use crate::{error::Result, runtime::broadcast::Cast};

/// Under which name nodes hear it.
pub(crate) const NAME: &str = "greenroom_live";

/// Something said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// By a channel: this event was pushed.
    Event {
        #[serde(rename = "c")]
        channel: Arc<str>,
        #[serde(rename = "m")]
        mark: Mark,
        #[serde(rename = "e")]
        event: String,
        #[serde(rename = "v")]
        value: Box<RawValue>,
    },
    /// By a channel: you are told of every event after this.
    Head {
        #[serde(rename = "c")]
        channel: Arc<str>,
        #[serde(rename = "m")]
        mark: Mark,
    },
    /// What connections do you have, all or of one channel? Tell `from`.
    Count { from: u64, token: u64, channel: Option<String> },
    /// The answer.
    Counted { token: u64, counted: Counted },
    /// Close the connections of a channel, or one of them, and tell `from`.
    Close { from: u64, token: u64, channel: String, connection: Option<String> },
}

impl Said {
    /// To be told to some nodes.
    pub(crate) fn cast(&self) -> Result<Cast> {
        Cast::to_all(NAME, self)
    }
}
