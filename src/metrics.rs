//! The numbers a node exports, in OpenMetrics text. One file, so that names stay consistent.
//!
//! Recording costs a few atomic additions: whoever records often keeps a [`KindMetrics`] or an
//! [`HttpMetrics`] handle and never looks anything up. Label values are bounded: kinds and routes
//! are those of the program, everything else is `other`.

mod histogram;
mod http;
mod kind;
mod labels;
mod limit;
mod live;
mod schedule;
mod topics;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

pub use histogram::Histogram;
pub use http::HttpMetrics;
pub use kind::KindMetrics;
use labels::{Entry, Event, Known, Limit, Route, Served, Source, State};
pub use limit::LimitMetrics;
pub use live::LiveMetrics;

use crate::backend::Ledger;

/// Everything measured. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    kinds: RwLock<HashMap<String, KindMetrics>>,
    by_kind: kind::Families,
    topics: topics::Families,
    accepted: Family<Source, Counter>,
    commit_batch: Histogram,
    commit_seconds: Histogram,
    append_batch: Histogram,
    append_seconds: Histogram,
    activations: Gauge,
    activation_bytes: Gauge,
    mailbox_messages: Gauge,
    mailbox_bytes: Gauge,
    mailbox_oldest: Gauge<f64, AtomicU64>,
    ledger: Family<Entry, Gauge>,
    served: Family<Served, Counter>,
    served_seconds: Family<Route, Histogram, fn() -> Histogram>,
    event_streams: Gauge,
    schedules: schedule::Schedules,
    sessions: Family<Event, Counter>,
    limits: Family<Limit, Counter>,
    waiting: Family<State, Gauge>,
    refused: Gauge,
    paused: Gauge,
    live: LiveMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("greenroom");
        registry.register(
            "build",
            "The version that runs",
            Info::new(vec![("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        );
        let inner = Inner {
            by_kind: kind::Families::register(&mut registry),
            limits: LimitMetrics::register(&mut registry),
            topics: topics::Families::register(&mut registry),
            kinds: RwLock::default(),
            accepted: Family::default(),
            commit_batch: Histogram::counts(),
            commit_seconds: Histogram::seconds(),
            append_batch: Histogram::counts(),
            append_seconds: Histogram::seconds(),
            activations: Gauge::default(),
            activation_bytes: Gauge::default(),
            mailbox_messages: Gauge::default(),
            mailbox_bytes: Gauge::default(),
            mailbox_oldest: Gauge::default(),
            ledger: Family::default(),
            served: Family::default(),
            served_seconds: Family::new_with_constructor(Histogram::seconds),
            event_streams: Gauge::default(),
            schedules: schedule::Schedules::register(&mut registry),
            sessions: Family::default(),
            waiting: Family::default(),
            refused: Gauge::default(),
            paused: Gauge::default(),
            live: LiveMetrics::register(&mut registry),
            registry: Registry::default(),
        };
        inner.register(&mut registry);
        Self { inner: Arc::new(Inner { registry, ..inner }) }
    }
}

impl Inner {
    fn register(&self, to: &mut Registry) {
        to.register("accepted", "Messages accepted, by where they came from", self.accepted.clone());
        to.register("commit_batch", "Commits made durable together", self.commit_batch.clone());
        to.register_with_unit("commit", "Time to commit a batch", Unit::Seconds, self.commit_seconds.clone());
        to.register("append_batch", "Messages made durable together", self.append_batch.clone());
        to.register_with_unit("append", "Time to append a batch", Unit::Seconds, self.append_seconds.clone());
        to.register("activations", "Actors in memory", self.activations.clone());
        to.register_with_unit("activation", "Memory of actors", Unit::Bytes, self.activation_bytes.clone());
        to.register("mailbox_messages", "Messages that wait", self.mailbox_messages.clone());
        to.register_with_unit("mailbox", "Bytes of messages that wait", Unit::Bytes, self.mailbox_bytes.clone());
        let oldest = "Age of the oldest message that waits";
        to.register_with_unit("mailbox_oldest", oldest, Unit::Seconds, self.mailbox_oldest.clone());
        to.register("ledger_messages", "The ledger: accepted = the sum of the others", self.ledger.clone());
        to.register("http_requests", "HTTP requests answered", self.served.clone());
        let time = "Time from a request's head to its answer's head";
        to.register_with_unit("http_request", time, Unit::Seconds, self.served_seconds.clone());
        let waiting = "Messages in mailboxes of this node that were passed over: their lane is full, or paused";
        to.register("waiting_messages", waiting, self.waiting.clone());
        to.register("refused_tenants", "Tenants that have more than their share of a mailbox", self.refused.clone());
        to.register("paused", "Kinds and keys that are paused", self.paused.clone());
        to.register("http_event_streams", "Open streams of server-sent events", self.event_streams.clone());
        to.register("session_events", "What happened to sessions", self.sessions.clone());
    }
}

impl Metrics {
    /// How many kinds get a label of their own; a program has a few dozen at most.
    const KINDS: usize = 512;

    /// The handle of one kind: keep it, recording through it looks nothing up.
    pub fn kind(&self, kind: &str) -> KindMetrics {
        if let Some(known) = self.inner.kinds.read().unwrap_or_else(PoisonError::into_inner).get(kind) {
            return known.clone();
        }
        let mut kinds = self.inner.kinds.write().unwrap_or_else(PoisonError::into_inner);
        let kind = if kinds.len() < Self::KINDS { kind } else { "other" };
        kinds.entry(kind.to_owned()).or_insert_with(|| self.inner.by_kind.kind(kind)).clone()
    }

    /// An attempt of a command of `kind` ended, see [`KindMetrics::command`].
    pub fn command(&self, kind: &str, outcome: &str, seconds: f64) {
        self.kind(kind).command(outcome, seconds);
    }

    /// An idle activation of `kind` left memory.
    pub fn passivated(&self, kind: &str) {
        self.kind(kind).passivated();
    }

    /// A command of `kind` will be tried again.
    pub fn retried(&self, kind: &str) {
        self.kind(kind).retried();
    }

    /// A command of `kind` was given up.
    pub fn dead_lettered(&self, kind: &str) {
        self.kind(kind).dead_lettered();
    }

    /// A message was accepted from `client`, `actor`, `timer`, `schedule`, `admin` or `program`.
    pub fn accepted(&self, source: &str) {
        self.inner.accepted.get_or_create(&Source { source: Known::source(source) }).inc();
    }

    /// A batch of commits became durable.
    pub fn commit(&self, batch: usize, seconds: f64) {
        self.inner.commit_batch.observe(batch as f64);
        self.inner.commit_seconds.observe(seconds);
    }

    /// A batch of messages became durable.
    pub fn append(&self, batch: usize, seconds: f64) {
        self.inner.append_batch.observe(batch as f64);
        self.inner.append_seconds.observe(seconds);
    }

    /// Activations appeared or, when negative, went.
    pub fn activations(&self, delta: i64) {
        self.inner.activations.inc_by(delta);
    }

    /// Memory of activations grew or, when negative, shrank.
    pub fn activation_bytes(&self, delta: i64) {
        self.inner.activation_bytes.inc_by(delta);
    }

    /// The ledger as it stands: mailbox depth and the counts of G11.
    pub fn ledger(&self, ledger: &Ledger) {
        let entries = [
            ("accepted", ledger.accepted as i64),
            ("completed", ledger.completed as i64),
            ("failed", ledger.failed as i64),
            ("dead", ledger.dead as i64),
            ("cancelled", ledger.cancelled as i64),
            ("lost", ledger.lost as i64),
            ("in_flight", ledger.in_flight()),
        ];
        for (entry, count) in entries {
            self.inner.ledger.get_or_create(&Entry { entry }).set(count);
        }
        self.inner.mailbox_messages.set(ledger.in_flight());
        self.inner.mailbox_bytes.set(ledger.bytes as i64);
    }

    /// How old the oldest message is that waits; 0 when none does.
    pub fn mailbox_oldest(&self, seconds: f64) {
        self.inner.mailbox_oldest.set(seconds);
    }

    /// The handle of one route, method and status: keep it, see [`HttpMetrics`].
    pub fn http_handle(&self, route: &str, method: &str, status: u16) -> HttpMetrics {
        let method = Known::method(method);
        let served = Served { route: route.to_owned(), method, status };
        let seconds = Route { route: route.to_owned(), method };
        HttpMetrics::new(
            self.inner.served.get_or_create_owned(&served),
            self.inner.served_seconds.get_or_create_owned(&seconds),
        )
    }

    /// An HTTP request was answered. `route` is the pattern, never the path.
    pub fn http(&self, route: &str, method: &str, status: u16, seconds: f64) {
        self.http_handle(route, method, status).observe(seconds);
    }

    /// More messages of a mailbox wait, or fewer when negative: for room in memory, and because they are
    /// paused.
    pub fn waiting(&self, room: i64, paused: i64) {
        for (state, delta) in [("room", room), ("paused", paused)] {
            self.inner.waiting.get_or_create(&State { state }).inc_by(delta);
        }
    }

    /// More tenants have more than their share of a mailbox, or fewer when negative.
    pub fn refused(&self, delta: i64) {
        self.inner.refused.inc_by(delta);
    }

    /// So many kinds and keys are paused.
    pub fn paused(&self, count: usize) {
        self.inner.paused.set(count as i64);
    }

    /// Streams of server-sent events opened or, when negative, closed.
    pub fn event_streams(&self, delta: i64) {
        self.inner.event_streams.inc_by(delta);
    }

    /// Slots of schedules were `taken`, `missed` or `skipped`.
    pub fn slots(&self, outcome: &str, count: u64) {
        self.inner.schedules.slots(outcome, count);
    }

    /// A slot was taken so many seconds after it was to fire.
    pub fn slot_lag(&self, seconds: f64) {
        self.inner.schedules.lag(seconds);
    }

    /// Something happened to sessions so many times. `event` is one of the program's own words.
    pub fn sessions(&self, event: &'static str, times: u64) {
        self.inner.sessions.get_or_create(&Event { event }).inc_by(times);
    }

    /// The handle of one limit: its name is the program's, never a client's.
    pub fn limit(&self, name: &str) -> LimitMetrics {
        LimitMetrics::of(&self.inner.limits, name)
    }

    /// The series of live connections.
    pub fn live(&self) -> &LiveMetrics {
        &self.inner.live
    }

    /// Everything as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 << 10);
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.inner.registry);
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_an_interface_and_never_change() {
        let metrics = Metrics::default();
        metrics.command("order", "completed", 0.003);
        metrics.command("order", "whatever", 0.003);
        metrics.retried("order");
        metrics.dead_lettered("order");
        metrics.passivated("order");
        metrics.accepted("client");
        metrics.accepted("nowhere");
        metrics.commit(12, 0.002);
        metrics.append(3, 0.001);
        metrics.activations(2);
        metrics.activation_bytes(4096);
        metrics.mailbox_oldest(1.5);
        metrics.slots("missed", 3);
        metrics.slot_lag(0.2);
        metrics.waiting(7, 2);
        metrics.refused(1);
        metrics.paused(3);
        metrics.ledger(&Ledger { accepted: 5, completed: 2, failed: 1, bytes: 99, ..Ledger::default() });
        metrics.http("/orders/{id}", "GET", 200, 0.000_4);
        metrics.http("/orders/{id}", "BREW", 405, 0.000_4);
        metrics.sessions("login", 2);
        metrics.limit("openai").refused();
        let text = metrics.encode();
        for line in [
            "greenroom_commands_total{kind=\"order\",outcome=\"completed\"} 1",
            "greenroom_commands_total{kind=\"order\",outcome=\"other\"} 1",
            "greenroom_command_seconds_count{kind=\"order\"} 2",
            "greenroom_retries_total{kind=\"order\"} 1",
            "greenroom_dead_letters_total{kind=\"order\"} 1",
            "greenroom_passivations_total{kind=\"order\"} 1",
            "greenroom_accepted_total{source=\"client\"} 1",
            "greenroom_accepted_total{source=\"other\"} 1",
            "greenroom_commit_batch_sum 12.0",
            "greenroom_commit_seconds_count 1",
            "greenroom_append_batch_sum 3.0",
            "greenroom_append_seconds_count 1",
            "greenroom_activations 2",
            "greenroom_activation_bytes 4096",
            "greenroom_mailbox_messages 2",
            "greenroom_mailbox_bytes 99",
            "greenroom_mailbox_oldest_seconds 1.5",
            "greenroom_waiting_messages{state=\"room\"} 7",
            "greenroom_waiting_messages{state=\"paused\"} 2",
            "greenroom_refused_tenants 1",
            "greenroom_paused 3",
            "greenroom_ledger_messages{entry=\"in_flight\"} 2",
            "greenroom_http_requests_total{route=\"/orders/{id}\",method=\"GET\",status=\"200\"} 1",
            "greenroom_http_requests_total{route=\"/orders/{id}\",method=\"OTHER\",status=\"405\"} 1",
            "greenroom_http_request_seconds_count{route=\"/orders/{id}\",method=\"GET\"} 1",
            "greenroom_http_event_streams 0",
            "greenroom_schedule_slots_total{outcome=\"missed\"} 3",
            "greenroom_schedule_lag_seconds_count 1",
            "greenroom_session_events_total{event=\"login\"} 2",
            "greenroom_limit_asked_total{limit=\"openai\",outcome=\"refused\"} 1",
            "greenroom_limit_asked_total{limit=\"openai\",outcome=\"allowed\"} 0",
            "greenroom_live_connections{transport=\"websocket\"} 0",
            "greenroom_live_sent_total 0",
            "greenroom_build_info{version=",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn kinds_beyond_the_bound_share_a_label() {
        let metrics = Metrics::default();
        for kind in 0..2 * Metrics::KINDS {
            metrics.retried(&format!("k{kind}"));
        }
        let text = metrics.encode();
        assert!(text.contains("greenroom_retries_total{kind=\"other\"} 512"), "{text}");
        assert!(!text.contains("\"k600\""));
    }
}
