//! The clients' own history: a file that no server knows of. A line is written before a telling is
//! first sent, and another for everything that was heard of it.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::command::Command;

/// One line. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// The command is about to be sent for the first time.
    Sent { account: String, command: Command, after_ms: Option<u64>, at: i64 },
    /// It was promised under this id, after so many tries; how it ended, and what, if the answer said so.
    Promised {
        mark: String,
        request: String,
        tries: u32,
        ended: Option<String>,
        /// Of which command the answer brought the result.
        #[serde(default)]
        of: Option<String>,
        at: i64,
    },
    /// It is about to be cancelled.
    Cancelling { mark: String, request: String, at: i64 },
    /// What cancelling it was answered: how it stands.
    Cancelled {
        mark: String,
        done: bool,
        state: String,
        /// How often it was asked for, heard or not.
        #[serde(default)]
        tries: u32,
        at: i64,
    },
    /// Its signal is about to be posted.
    Signalling { mark: String, request: String, at: i64 },
    /// What that was answered, after so many tries.
    Signalled { mark: String, status: u16, tries: u32, at: i64 },
    /// It was answered with something that is neither a promise nor a reason to try again.
    Refused { mark: String, status: u16, text: String, at: i64 },
    /// It was not promised however often it was tried.
    GivenUp { mark: String, tries: u32, at: i64 },
}

impl Event {
    /// Which command it is about.
    pub(crate) fn mark(&self) -> &str {
        match self {
            Self::Sent { command, .. } => command.mark(),
            Self::Promised { mark, .. }
            | Self::Cancelling { mark, .. }
            | Self::Cancelled { mark, .. }
            | Self::Signalling { mark, .. }
            | Self::Signalled { mark, .. }
            | Self::Refused { mark, .. }
            | Self::GivenUp { mark, .. } => mark,
        }
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// The file, while it is written.
pub(crate) type History = crate::support::history::History<Event>;

/// The file, when all is over.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    crate::support::history::read(path)
}
