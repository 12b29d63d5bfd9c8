//! What anybody outside may see of a message: the answer of `GET /requests/{id}`.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{
    backend::{Lookup, Request, Status},
    error::Failure,
    request::RequestId,
};

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In the mailbox; no attempt has begun.
    Accepted,
    /// An attempt is running, or the next one waits for its time.
    Processing,
    /// Its effect is committed.
    Completed,
    /// It met a terminal error.
    Failed,
    /// Its attempts are used up; it can be redriven.
    DeadLettered,
    /// It was cancelled before it began, or discarded.
    Cancelled,
}

impl State {
    /// Whether nothing more will happen (short of a redrive).
    pub fn ended(self) -> bool {
        !matches!(self, State::Accepted | State::Processing)
    }
}

/// A request as its client sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub request: RequestId,
    /// How it stands.
    pub status: State,
    /// Attempts begun.
    pub attempts: u32,
    /// The reply, when completed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub result: Option<Box<RawValue>>,
    /// The last failure, when failed, dead-lettered, or waiting to be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<i64>,
    /// When the next attempt is due, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<i64>,
    /// When it ended, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
}

/// A reply that is there, be it `null`.
fn present<'de, D: Deserializer<'de>>(json: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(json).map(Some)
}

/// What looking for a request found.
#[derive(Clone, Debug)]
pub enum Found {
    /// There was never such a request.
    Unknown,
    /// It ended longer ago than results are kept.
    Expired,
    /// It was accepted, and lost by a server that had not synced it.
    Lost,
    /// This is how it stands.
    Here(View),
}

impl View {
    /// A view that says no more than a status.
    pub(crate) fn new(request: RequestId, status: State) -> Self {
        Self {
            request,
            status,
            attempts: 0,
            result: None,
            error: None,
            accepted_at: None,
            next_attempt_at: None,
            ended_at: None,
        }
    }
}

impl Found {
    /// From what the store knows and the attempt that is running now, if any.
    pub(crate) fn of(request: RequestId, lookup: Lookup, running: Option<u32>) -> Self {
        let view = View::new(request, State::Accepted);
        Found::Here(match lookup {
            Lookup::Unknown => return Found::Unknown,
            Lookup::Expired => return Found::Expired,
            Lookup::Lost => return Found::Lost,
            Lookup::Waiting(stored) => {
                let attempts = running.unwrap_or(0).max(stored.attempts);
                View {
                    status: if attempts > 0 { State::Processing } else { State::Accepted },
                    attempts,
                    accepted_at: stored.envelope.as_ref().ok().map(|e| e.accepted),
                    next_attempt_at: (running.is_none() && stored.due > 0).then_some(stored.due),
                    error: stored.failures.last().cloned(),
                    ..view
                }
            }
            Lookup::Dead(dead) => View {
                status: State::DeadLettered,
                attempts: dead.attempts,
                error: dead.failures.last().cloned(),
                accepted_at: dead.envelope.map(|e| e.accepted),
                ended_at: Some(dead.died),
                ..view
            },
            Lookup::Ended(ended) => Self::ended(view, ended),
        })
    }

    fn ended(view: View, ended: Request) -> View {
        View {
            status: match ended.status {
                Status::Completed => State::Completed,
                Status::Failed => State::Failed,
                Status::Cancelled => State::Cancelled,
            },
            attempts: ended.attempts,
            result: ended.reply,
            error: ended.error,
            ended_at: Some(ended.ended),
            ..view
        }
    }
}
