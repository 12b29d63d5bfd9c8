//! One connection as the hub knows it: a bounded queue to whoever writes to the client, and what there is
//! to say about it.
//!
//! Invariant: giving never waits. A connection that does not keep up is ended, and its client resumes.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc};

use super::{mark::Mark, program::Update, settings::Settings};

/// How events get to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// A WebSocket (RFC 6455).
    Websocket,
    /// Server-sent events (the HTML standard, section 9.2).
    Events,
    /// None: [within a program](crate::Node::follow).
    Program,
}

/// Why a connection is ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// More waited for it than may.
    Slow,
    /// An operator or the product wanted it.
    Disconnected,
}

/// An event on its way to connections; made once for all of them.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) mark: Mark,
    event: String,
    value: Box<str>,
    token: String,
    sse: OnceLock<Bytes>,
    ws: OnceLock<ByteString>,
}

impl Frame {
    pub(crate) fn new(mark: Mark, event: String, value: impl Into<Box<str>>, token: String) -> Arc<Self> {
        Arc::new(Self { mark, event, value: value.into(), token, sse: OnceLock::new(), ws: OnceLock::new() })
    }

    fn size(&self) -> usize {
        self.event.len() + self.value.len()
    }

    /// As a program has it.
    pub(crate) fn update(&self) -> Update {
        let Self { event, value, token, .. } = self;
        Update::Event { id: token.clone(), event: event.clone(), data: value.to_string() }
    }

    /// As an event stream has it. The value is one line: see [`push`](super::push).
    pub(crate) fn sse(&self) -> Bytes {
        let Self { event, value, token, .. } = self;
        self.sse.get_or_init(|| format!("event: {event}\nid: {token}\ndata: {value}\n\n").into()).clone()
    }

    /// As a WebSocket has it.
    pub(crate) fn ws(&self) -> ByteString {
        self.ws.get_or_init(|| said(&self.event, Some(&self.token), &self.value).into()).clone()
    }
}

/// A message to a WebSocket: the same three things as in an event stream.
pub(crate) fn said(event: &str, token: Option<&str>, data: &str) -> String {
    match token {
        Some(token) => format!(r#"{{"event":"{event}","id":"{token}","data":{data}}}"#),
        None => format!(r#"{{"event":"{event}","data":{data}}}"#),
    }
}

/// What a connection is given, in order.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// What comes next comes after this.
    From(Mark),
    /// The next event.
    Event(Arc<Frame>),
    /// What came until this is missing, and what comes next comes after it.
    Gap(Mark),
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: u64,
    pub(crate) transport: Transport,
    /// In milliseconds since the Unix epoch.
    pub(crate) since: i64,
    pub(crate) sent: AtomicU64,
    queued: AtomicUsize,
    why: OnceLock<Why>,
    over: Notify,
}

impl Line {
    /// Ends it; the first reason counts.
    pub(crate) fn end(&self, why: Why) {
        if self.why.set(why).is_ok() {
            self.over.notify_one();
        }
    }

    /// Returns when it is ended, for one caller.
    pub(crate) async fn over(&self) -> Why {
        loop {
            if let Some(why) = self.why.get() {
                return *why;
            }
            self.over.notified().await;
        }
    }

    /// Something was taken out of its queue.
    pub(crate) fn taken(&self, item: &Item) {
        self.queued.fetch_sub(size(item), Relaxed);
    }

    /// Bytes that wait in its queue.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::Event(frame) => frame.size(),
        Item::From(_) | Item::Gap(_) => 0,
    }
}

/// The hub's end of a connection.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) line: Arc<Line>,
    items: mpsc::Sender<Item>,
    bytes: usize,
}

impl Outlet {
    /// Both ends of a new connection.
    pub(crate) fn new(id: u64, transport: Transport, since: i64, settings: &Settings) -> (Self, mpsc::Receiver<Item>) {
        let (items, taken) = mpsc::channel(settings.buffer_events.max(1) + 1);
        let line = Arc::new(Line {
            id,
            transport,
            since,
            sent: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            why: OnceLock::new(),
            over: Notify::new(),
        });
        (Self { line, items, bytes: settings.buffer_bytes }, taken)
    }

    /// Gives it something; `false` when it is over.
    pub(crate) fn give(&self, item: Item) -> bool {
        let size = size(&item);
        let queued = self.line.queued.fetch_add(size, Relaxed);
        if queued + size <= self.bytes && self.items.try_send(item).is_ok() {
            return true;
        }
        self.line.queued.fetch_sub(size, Relaxed);
        if !self.items.is_closed() {
            self.line.end(Why::Slow);
        }
        false
    }
}

/// How long a client is told to wait before it connects again: at random within a time, so that many do
/// not come at once.
pub(crate) fn wait(random: u64, least: Duration, spread: Duration) -> u64 {
    let spread = spread.as_millis().min(u64::MAX as u128) as u64;
    least.as_millis() as u64 + random % (spread + 1)
}

/// An event's value, on one line as an event stream needs it.
pub(crate) fn one_line(value: Box<RawValue>) -> Box<RawValue> {
    if !value.get().contains(['\n', '\r']) {
        return value;
    }
    // Between the parts of JSON any white space is as good; within a text it is escaped.
    RawValue::from_string(value.get().replace(['\n', '\r'], " ")).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(n: u64, value: &str) -> Item {
        Item::Event(Frame::new(Mark { life: 1, n }, "e".into(), value, "t".into()))
    }

    #[test]
    fn both_transports_carry_the_same_three_things() {
        let frame = Frame::new(Mark { life: 1, n: 1 }, "paid".into(), r#"{"a":1}"#, "42".into());
        assert_eq!(frame.sse(), "event: paid\nid: 42\ndata: {\"a\":1}\n\n");
        assert_eq!(&*frame.ws(), r#"{"event":"paid","id":"42","data":{"a":1}}"#);
        let two = RawValue::from_string("{\"a\":\r\n \"\\n\"}".into()).unwrap();
        assert_eq!(one_line(two).get(), r#"{"a":   "\n"}"#);
    }

    #[test]
    fn one_that_does_not_keep_up_is_ended_by_number_or_bytes() {
        let settings = Settings { buffer_events: 2, buffer_bytes: 100, ..Settings::default() };
        let (outlet, mut taken) = Outlet::new(1, Transport::Events, 0, &settings);
        assert!((1..=3).all(|n| outlet.give(frame(n, "1"))), "two, and what it is writing now");
        assert!(!outlet.give(frame(4, "1")));
        assert_eq!(outlet.line.why.get(), Some(&Why::Slow));
        let item = taken.try_recv().unwrap();
        assert_eq!(outlet.line.queued(), 6);
        outlet.line.taken(&item);
        assert_eq!(outlet.line.queued(), 4);
        let (outlet, _taken) = Outlet::new(1, Transport::Events, 0, &settings);
        assert!(outlet.give(frame(1, &"x".repeat(60))) && !outlet.give(frame(2, &"x".repeat(60))));
        assert_eq!(outlet.line.why.get(), Some(&Why::Slow));
        let (outlet, taken) = Outlet::new(1, Transport::Events, 0, &settings);
        drop(taken);
        assert!(!outlet.give(frame(1, "1")) && outlet.line.why.get().is_none(), "it has gone by itself");
    }

    #[test]
    fn clients_come_back_within_the_time() {
        let (least, spread) = (Duration::from_millis(200), Duration::from_secs(1));
        assert_eq!((wait(0, least, spread), wait(1000, least, spread), wait(1001, least, spread)), (200, 1200, 200));
    }
}
