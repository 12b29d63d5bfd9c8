//! The label sets, and the closed lists that keep their values bounded.

use prometheus_client::encoding::EncodeLabelSet;

/// How an attempt can end; the last one stands for whatever is not listed.
pub(super) const OUTCOMES: [&str; 6] = ["completed", "failed", "retried", "dead-lettered", "cancelled", "other"];

const SOURCES: [&str; 6] = ["client", "actor", "timer", "schedule", "admin", "program"];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Kind {
    pub(super) kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Command {
    pub(super) kind: String,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Source {
    pub(super) source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Entry {
    pub(super) entry: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Event {
    pub(super) event: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Served {
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Route {
    pub(super) route: String,
    pub(super) method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Limit {
    pub(super) limit: String,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct State {
    pub(super) state: &'static str,
}

/// Text from outside, made one of a closed list.
pub(super) struct Known;

impl Known {
    pub(super) fn source(source: &str) -> &'static str {
        SOURCES.into_iter().find(|known| *known == source).unwrap_or("other")
    }

    pub(super) fn method(method: &str) -> &'static str {
        METHODS.into_iter().find(|known| *known == method).unwrap_or("OTHER")
    }
}
