//! What is counted for topics and their groups. What this node did is counted; how far groups are behind
//! is asked of the store, so every node says the same.
//!
//! Invariant: labels are names that features declare, and so many of them at most.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::Metrics;
use crate::coordination::topic::view::TopicView;

/// How many topics, and how many groups, get a label of their own.
const MOST: usize = 512;
const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Topic {
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    topic: String,
    group: String,
}

/// Counters that were looked up before.
type Known = RwLock<HashMap<String, Counter>>;

#[derive(Default)]
pub(super) struct Families {
    published: Family<Topic, Counter>,
    delivered: Family<Group, Counter>,
    lag: Family<Group, Gauge>,
    lag_seconds: Family<Group, Gauge<f64, AtomicU64>>,
    topics: Known,
    groups: RwLock<HashMap<String, HashMap<String, Counter>>>,
}

impl Families {
    pub(super) fn register(to: &mut Registry) -> Self {
        let families = Self::default();
        to.register("topic_published", "Events that topics took", families.published.clone());
        to.register("topic_delivered", "Events that became commands of a group", families.delivered.clone());
        to.register("topic_lag_events", "Events that a group has not had", families.lag.clone());
        let oldest = "Age of the oldest event that a group has not had";
        to.register_with_unit("topic_lag", oldest, Unit::Seconds, families.lag_seconds.clone());
        families
    }
}

impl Metrics {
    /// A topic took an event.
    pub(crate) fn topic_published(&self, topic: &str) {
        let families = &self.inner.topics;
        if let Some(known) = families.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            known.inc();
            return;
        }
        let mut topics = families.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = if topics.len() < MOST { topic } else { OTHER };
        let label = Topic { topic: topic.to_owned() };
        topics.entry(topic.to_owned()).or_insert_with(|| families.published.get_or_create_owned(&label)).inc();
    }

    /// A group of a topic got an event.
    pub(crate) fn topic_delivered(&self, topic: &str, group: &str) {
        let families = &self.inner.topics;
        let known = families.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = known.get(topic).and_then(|groups| groups.get(group)) {
            counter.inc();
            return;
        }
        let full = known.values().map(HashMap::len).sum::<usize>() >= MOST;
        drop(known);
        let (topic, group) = if full { (OTHER, OTHER) } else { (topic, group) };
        let label = Group { topic: topic.to_owned(), group: group.to_owned() };
        let mut groups = families.groups.write().unwrap_or_else(PoisonError::into_inner);
        let groups = groups.entry(topic.to_owned()).or_default();
        groups.entry(group.to_owned()).or_insert_with(|| families.delivered.get_or_create_owned(&label)).inc();
    }

    /// How far groups are behind. A group that is gone is not told of any more.
    pub(crate) fn topic_lags(&self, topics: &[TopicView]) {
        let Families { lag, lag_seconds, .. } = &self.inner.topics;
        lag.clear();
        lag_seconds.clear();
        let all = topics.iter().flat_map(|topic| topic.groups.iter().map(|group| (topic.topic.clone(), group)));
        for (topic, group) in all.take(MOST) {
            let label = Group { topic, group: group.group.clone() };
            lag.get_or_create(&label).set(group.lag as i64);
            lag_seconds.get_or_create(&label).set(group.lag_ms as f64 / 1000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::topic::view::{GroupStatus, GroupView};

    #[test]
    fn names_are_an_interface_and_labels_are_bounded() {
        let metrics = Metrics::default();
        metrics.topic_published("orders");
        metrics.topic_delivered("orders", "billing");
        metrics.topic_delivered("orders", "billing");
        let group =
            |lag| GroupView { group: "billing".into(), status: GroupStatus::Paused, lag, lag_ms: 1500, why: None };
        let view = |lag| TopicView { topic: "orders".into(), groups: vec![group(lag)], ..TopicView::default() };
        metrics.topic_lags(&[view(7)]);
        let text = metrics.encode();
        for line in [
            "greenroom_topic_published_total{topic=\"orders\"} 1",
            "greenroom_topic_delivered_total{topic=\"orders\",group=\"billing\"} 2",
            "greenroom_topic_lag_events{topic=\"orders\",group=\"billing\"} 7",
            "greenroom_topic_lag_seconds{topic=\"orders\",group=\"billing\"} 1.5",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        metrics.topic_lags(&[]);
        assert!(!metrics.encode().contains("greenroom_topic_lag_events{"));
        for n in 0..2 * MOST {
            metrics.topic_published(&format!("t{n}"));
            metrics.topic_delivered(&format!("t{n}"), "g");
        }
        let text = metrics.encode();
        assert!(text.contains("greenroom_topic_published_total{topic=\"other\"}") && !text.contains("\"t600\""));
    }
}
