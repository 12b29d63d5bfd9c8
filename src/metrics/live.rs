//! What is counted of live connections.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::coordination::live::line::Transport;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    transport: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    why: &'static str,
}

/// The series of live connections.
#[derive(Clone, Debug)]
pub struct LiveMetrics {
    websockets: Gauge,
    streams: Gauge,
    programs: Gauge,
    channels: Gauge,
    sent: Counter,
    resumed: Counter,
    gaps: Counter,
    ended: Family<Ended, Counter>,
    messages: Counter,
}

impl LiveMetrics {
    pub(super) fn register(to: &mut Registry) -> Self {
        let open = Family::<By, Gauge>::default();
        let of = |transport| open.get_or_create_owned(&By { transport });
        let live = Self {
            websockets: of("websocket"),
            streams: of("events"),
            programs: of("program"),
            channels: Gauge::default(),
            sent: Counter::default(),
            resumed: Counter::default(),
            gaps: Counter::default(),
            ended: Family::default(),
            messages: Counter::default(),
        };
        to.register("live_connections", "Live connections open", open);
        to.register("live_channels", "Channels that this node follows", live.channels.clone());
        to.register("live_sent", "Events sent to live connections", live.sent.clone());
        to.register("live_resumed", "Events among them that were missed and made up for", live.resumed.clone());
        to.register("live_gaps", "Live connections told that something is missing", live.gaps.clone());
        to.register("live_ended", "Live connections ended from this side, by why", live.ended.clone());
        to.register("live_messages", "Messages of clients accepted over live connections", live.messages.clone());
        live
    }

    /// A connection was opened.
    pub fn opened(&self, transport: Transport) {
        self.open(transport).inc();
    }

    /// A connection has ended.
    pub fn closed(&self, transport: Transport) {
        self.open(transport).dec();
    }

    fn open(&self, transport: Transport) -> &Gauge {
        match transport {
            Transport::Websocket => &self.websockets,
            Transport::Events => &self.streams,
            Transport::Program => &self.programs,
        }
    }

    /// This many channels are followed.
    pub fn channels(&self, channels: usize) {
        self.channels.set(channels as i64);
    }

    /// An event was sent to a connection.
    pub fn sent(&self) {
        self.sent.inc();
    }

    /// So many events were missed by a client that came back.
    pub fn resumed(&self, events: usize) {
        self.resumed.inc_by(events as u64);
    }

    /// A client was told that something is missing.
    pub fn gap(&self) {
        self.gaps.inc();
    }

    /// A connection was ended from this side: `slow`, `silent`, `moving`, `disconnected` or `refused`.
    pub fn ended(&self, why: &'static str) {
        self.ended.get_or_create(&Ended { why }).inc();
    }

    /// A client's message was accepted.
    pub fn message(&self) {
        self.messages.inc();
    }
}
