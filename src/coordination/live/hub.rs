//! A node's directory of its live connections, and what keeps it right.
//!
//! Invariant: a feed with connections is attached to its channel or asks to be again and again; and a quiet
//! one is looked at every [`check`](super::settings::Settings::check), so that what was lost on the way is
//! found even when no later event shows it. That costs one read of a channel's document in that time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{
    channel::{Channel, Command, State, append},
    directory::Counted,
    feed::{Feed, Then},
    follow::Follow,
    line::{Frame, Outlet, Transport, Why},
    look::Looked,
    mark::Mark,
    said::{NAME, Said},
};
use crate::{
    actor::Actor,
    address::Address,
    backend::{Append, Loaded, document},
    error::Result,
    runtime::shared::Shared,
};

/// Looks and tells on their way at once.
const BATCH: usize = 128;
/// How far behind hearing may be before everything is looked at.
const BEHIND: usize = 16 << 10;
/// How often feeds are gone through.
const ROUND: Duration = Duration::from_secs(1);
/// How long the channel has to say where it is before it is told again that this node follows, in
/// milliseconds.
const ASK: i64 = 2_000;
/// How long a channel stays attached after its last connection: clients reload pages. In milliseconds.
const LINGER: i64 = 10_000;

/// Why there is no place for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The node has as many as it may.
    Node,
    /// The channel has, here.
    Channel,
}

/// Whoever wants to know what was found.
type Asks = oneshot::Sender<Arc<Looked>>;

/// Something to do in the store.
enum Want {
    Look(Arc<str>, Option<Asks>),
    Tell(Arc<str>, Command),
}

/// A node's connections.
pub(crate) struct Hub {
    pub(super) feeds: DashMap<Arc<str>, Feed>,
    pub(super) asks: DashMap<u64, mpsc::UnboundedSender<Counted>>,
    lines: AtomicUsize,
    wants: mpsc::UnboundedSender<Want>,
    wanted: Mutex<Option<mpsc::UnboundedReceiver<Want>>>,
}

impl Default for Hub {
    fn default() -> Self {
        let (wants, wanted) = mpsc::unbounded_channel();
        Self {
            feeds: DashMap::new(),
            asks: DashMap::new(),
            lines: AtomicUsize::new(0),
            wants,
            wanted: Mutex::new(Some(wanted)),
        }
    }
}

/// Starts what keeps a node's directory right.
pub(crate) fn start(shared: &Arc<Shared>) {
    let wanted = shared.live.wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(wanted) = wanted else { return };
    actix::spawn(hear(shared.clone()));
    actix::spawn(work(shared.clone(), wanted));
    actix::spawn(go_round(shared.clone()));
}

/// A new connection, going on after a mark if it has one.
pub(crate) fn join(
    shared: &Arc<Shared>,
    channel: &str,
    transport: Transport,
    after: Option<Mark>,
) -> Result<Follow, Full> {
    let (hub, settings, now) = (&shared.live, &shared.settings.live, shared.clock.now());
    let place = |lines| (lines < settings.connections).then_some(lines + 1);
    hub.lines.fetch_update(Relaxed, Relaxed, place).map_err(|_| Full::Node)?;
    let (outlet, items) = Outlet::new(shared.token(), transport, now, settings);
    let (channel, line): (Arc<str>, _) = (channel.into(), outlet.line.clone());
    let mut feed = hub.feeds.entry(channel.clone()).or_insert_with(|| {
        hub.tell(&channel, Command::Attach { node: shared.backend.me() });
        Feed::new(now)
    });
    if feed.outlets.len() >= settings.per_channel {
        drop(feed);
        hub.lines.fetch_sub(1, Relaxed);
        return Err(Full::Channel);
    }
    feed.join(outlet);
    drop(feed);
    shared.metrics.live().opened(transport);
    Ok(Follow::new(shared.clone(), channel, line, items, after))
}

impl Hub {
    /// A connection has ended.
    pub(crate) fn leave(&self, shared: &Shared, channel: &str, id: u64, transport: Transport) {
        if let Some(mut feed) = self.feeds.get_mut(channel) {
            feed.leave(id, shared.clock.now());
        }
        self.lines.fetch_sub(1, Relaxed);
        shared.metrics.live().closed(transport);
    }

    /// Whether this node has, or just had, connections of a channel.
    pub(crate) fn follows(&self, channel: &str) -> bool {
        self.feeds.contains_key(channel)
    }

    /// Looks into a channel's ring from now on. What is answered was in the store after this was called.
    pub(crate) fn look(&self, channel: &Arc<str>) -> oneshot::Receiver<Arc<Looked>> {
        let (to, looked) = oneshot::channel();
        // Only after the end of the node is nobody there to take it.
        let _ = self.wants.send(Want::Look(channel.clone(), Some(to)));
        looked
    }

    fn tell(&self, channel: &Arc<str>, command: Command) {
        let _ = self.wants.send(Want::Tell(channel.clone(), command));
    }

    fn then(&self, shared: &Shared, channel: &Arc<str>, feed: &mut Feed, then: Then) {
        match then {
            Then::Look if !feed.looking => {
                feed.looking = true;
                let _ = self.wants.send(Want::Look(channel.clone(), None));
            }
            Then::Attach => {
                feed.sure = shared.clock.now();
                self.tell(channel, Command::Attach { node: shared.backend.me() });
            }
            Then::Look | Then::Fine => {}
        }
    }

    /// Something was said to this node.
    fn hear(&self, shared: &Shared, said: Said) {
        let now = shared.clock.now();
        match said {
            Said::Event { channel, mark, event, value } => {
                let Some(mut feed) = self.feeds.get_mut(&channel) else { return };
                let token = mark.token(&channel, &shared.backend.secret());
                let then = feed.hear(Frame::new(mark, event, value.get(), token), now);
                self.then(shared, &channel, &mut feed, then);
            }
            Said::Head { channel, mark } => {
                let Some(mut feed) = self.feeds.get_mut(&channel) else { return };
                let then = feed.attached(mark, now);
                self.then(shared, &channel, &mut feed, then);
            }
            Said::Count { from, token, channel } => {
                let counted = self.count(shared, channel.as_deref());
                answer(shared, from, &Said::Counted { token, counted });
            }
            Said::Close { from, token, channel, connection } => {
                let closed = self.close(&channel, connection.as_deref());
                let counted = Counted { node: shared.backend.me(), closed, ..Counted::default() };
                answer(shared, from, &Said::Counted { token, counted });
            }
            Said::Counted { token, counted } => {
                if let Some(ask) = self.asks.get(&token) {
                    // It has stopped waiting.
                    let _ = ask.send(counted);
                }
            }
        }
    }

    fn close(&self, channel: &str, connection: Option<&str>) -> usize {
        let Some(feed) = self.feeds.get(channel) else { return 0 };
        let which = |outlet: &&Outlet| connection.is_none_or(|id| id == outlet.line.id.to_string());
        feed.outlets.iter().filter(which).map(|outlet| outlet.line.end(Why::Disconnected)).count()
    }

    /// Everything may have missed something.
    fn doubt(&self, shared: &Shared) {
        for mut feed in self.feeds.iter_mut() {
            let channel = feed.key().clone();
            self.then(shared, &channel, &mut feed, Then::Look);
        }
    }

    /// Detaches what nobody listens to any more, and asks for what is not known for sure.
    fn round(&self, shared: &Shared) {
        let (now, me) = (shared.clock.now(), shared.backend.me());
        let check = shared.settings.live.check.as_millis().min(i64::MAX as u128) as i64;
        self.feeds.retain(|channel, feed| {
            if feed.outlets.is_empty() && feed.empty.is_some_and(|since| now - since >= LINGER) {
                self.tell(channel, Command::Detach { node: me });
                return false;
            }
            let then = match feed.begun() {
                false if now - feed.sure >= ASK => Then::Attach,
                true if now - feed.sure >= check => Then::Look,
                _ => Then::Fine,
            };
            self.then(shared, channel, feed, then);
            true
        });
        shared.metrics.live().channels(self.feeds.len());
    }
}

fn answer(shared: &Shared, to: u64, said: &Said) {
    match said.cast() {
        Ok(cast) => shared.cast(cast.only(vec![to])),
        Err(error) => debug!(%error, "what was asked about connections was not answered"),
    }
}

/// Takes in what is said to this node.
async fn hear(shared: Arc<Shared>) {
    let mut said = shared.listeners.listen(NAME, BEHIND);
    loop {
        match said.recv().await {
            Ok(value) => match serde_json::from_str(value.get()) {
                Ok(said) => shared.live.hear(&shared, said),
                Err(error) => debug!(%error, "what was said of live connections was not understood"),
            },
            Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                warn!(missed, "events of live connections were missed here, and are looked up");
                shared.live.doubt(&shared);
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Does what is wanted of the store, as much at once as has come together.
async fn work(shared: Arc<Shared>, mut wanted: mpsc::UnboundedReceiver<Want>) {
    let mut wants = Vec::new();
    while wanted.recv_many(&mut wants, BATCH).await > 0 {
        let (mut looks, mut tells): (Vec<(Arc<str>, Vec<_>)>, Vec<Append>) = Default::default();
        for want in wants.drain(..) {
            match want {
                Want::Look(channel, to) => match looks.iter_mut().find(|(other, _)| *other == channel) {
                    Some((_, all)) => all.extend(to),
                    None => looks.push((channel, to.into_iter().collect())),
                },
                Want::Tell(channel, command) => match append(&channel, &command, shared.clock.now()) {
                    Ok(append) => tells.push(append),
                    Err(error) => warn!(%error, "a channel cannot be told"),
                },
            }
        }
        let ((), looked) = tokio::join!(tell(&shared, tells), look(&shared, &looks));
        match looked {
            Ok(looked) => give(&shared, looks, looked),
            Err(error) => {
                debug!(%error, "the store does not answer for live connections, trying again");
                shared.clock.rest(Duration::from_millis(500)).await;
                for (channel, to) in looks {
                    let again = |to| drop(shared.live.wants.send(Want::Look(channel.clone(), to)));
                    again(None);
                    to.into_iter().map(Some).for_each(again);
                }
            }
        }
    }
}

/// Tells channels; what was not told is told again by [`Hub::round`].
async fn tell(shared: &Shared, tells: Vec<Append>) {
    if tells.is_empty() {
        return;
    }
    for refused in shared.backend.append(tells).await.into_iter().filter_map(Result::err) {
        debug!(?refused, "a channel could not be told");
    }
}

async fn look<T>(shared: &Shared, looks: &[(Arc<str>, T)]) -> Result<Vec<Looked>> {
    let addresses = looks.iter().map(|(channel, _)| Address::new(Channel::KIND, channel)).collect::<Result<_>>()?;
    let (me, secret) = (shared.backend.me(), shared.backend.secret());
    let loaded = if looks.is_empty() { Vec::new() } else { shared.backend.load(addresses).await? };
    let read = |(loaded, (channel, _)): (&Loaded, &(Arc<str>, T))| match document::decode::<State>(&loaded.doc) {
        Ok(state) => Looked::new(&state, me, channel, &secret),
        Err(error) => {
            warn!(%error, channel = &**channel, "a channel cannot be read");
            Looked::default()
        }
    };
    Ok(loaded.iter().zip(looks).map(read).collect())
}

/// Gives what was found to whoever asked: the feed first, so that connections are not ahead of it.
fn give(shared: &Shared, looks: Vec<(Arc<str>, Vec<Asks>)>, looked: Vec<Looked>) {
    let now = shared.clock.now();
    for ((channel, to), looked) in looks.into_iter().zip(looked) {
        let looked = Arc::new(looked);
        if let Some(mut feed) = shared.live.feeds.get_mut(&channel) {
            let then = feed.looked(&looked, now);
            shared.live.then(shared, &channel, &mut feed, then);
        }
        // It may have gone meanwhile.
        to.into_iter().for_each(|to| drop(to.send(looked.clone())));
    }
}

/// Goes through the feeds now and then; through all when another node has gone, or this one is another
/// now: what was said meanwhile may have been lost with it.
async fn go_round(shared: Arc<Shared>) {
    let members = || {
        let members = shared.others.as_ref().map(|others| others.members());
        members.map(|members| members.iter().map(|member| member.id).collect::<Vec<_>>()).unwrap_or_default()
    };
    let mut known = (shared.backend.me(), members());
    while !shared.draining() {
        shared.clock.rest(ROUND).await;
        let now = (shared.backend.me(), members());
        if now.0 != known.0 || known.1.iter().any(|node| !now.1.contains(node)) {
            shared.live.doubt(&shared);
        }
        known = now;
        shared.live.round(&shared);
    }
}
