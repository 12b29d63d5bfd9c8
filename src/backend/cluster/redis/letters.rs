//! Letters between nodes. They come over one connection to whichever server of the store answers: what is
//! published at one reaches all. When that one ends or falls silent, another takes its place.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fred::{
    prelude::{EventInterface, PubsubInterface},
    types::{ConnectHandle, Message, Value},
};
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{Fault, Redis, Repeat, Way, address::Purpose, int, live::Live, send::Request, servers::Servers};

/// It is asked this often whether it still listens.
const ASKED: Duration = Duration::from_secs(2);
/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause before another server is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// One letter; nothing when some may have been missed.
type Letter = Option<Bytes>;

/// The box that letters come to.
pub(super) struct Letterbox {
    channels: Mutex<BTreeSet<String>>,
    live: Mutex<Option<Arc<Live>>>,
    closed: Notify,
    post: mpsc::UnboundedSender<Letter>,
    letters: Mutex<Option<mpsc::UnboundedReceiver<Letter>>>,
}

impl Letterbox {
    /// One that is kept open until it is closed.
    pub(super) fn start(servers: Arc<Servers>) -> Arc<Self> {
        let (post, letters) = mpsc::unbounded_channel();
        let letterbox = Arc::new(Self {
            channels: Mutex::default(),
            live: Mutex::default(),
            closed: Notify::new(),
            post,
            letters: Mutex::new(Some(letters)),
        });
        let kept = letterbox.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = kept.closed.notified() => {}
                () = kept.keep(&servers) => {}
            }
        });
        letterbox
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn channels(&self) -> Vec<String> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Listens at one server after the other, for ever.
    async fn keep(&self, servers: &Arc<Servers>) {
        for turn in 0_usize.. {
            let nodes = servers.all();
            let node = &nodes[turn % nodes.len().max(1)];
            // Not cut short by what else happens here: see `Live::open`.
            let (address, server) = (servers.address().clone(), node.server().cloned());
            let opening = tokio::spawn(async move { Live::open(&address, server.as_ref(), Purpose::Letters).await });
            match opening.await {
                Ok(Ok((live, task))) => {
                    let live = Arc::new(live);
                    let why = self.listen(&live, task).await;
                    self.live.lock().unwrap_or_else(PoisonError::into_inner).take();
                    live.end();
                    info!(server = node.name(), why, "letters of other nodes come from another connection now");
                }
                Ok(Err(why)) => debug!(server = node.name(), why, "no connection for letters"),
                // The store's threads are ending.
                Err(_) => return,
            }
            servers.refresh().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Passes on what a connection brings, until it ends or does not answer.
    async fn listen(&self, live: &Arc<Live>, mut task: ConnectHandle) -> &'static str {
        let mut messages = live.client().message_rx();
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(live.clone());
        let channels = self.channels();
        // The client takes it for done when it is sent; an answer after it says that it is.
        let subscribed = channels.is_empty() || live.client().subscribe(channels).await.is_ok();
        if !subscribed || live.ask("PING", Vec::new(), Instant::now() + PATIENCE).await.is_err() {
            return "it does not subscribe";
        }
        // Whatever was published in between is missed.
        let _ = self.post.send(None);
        let mut asked = tokio::time::interval_at(Instant::now() + ASKED, ASKED);
        loop {
            let letter = tokio::select! {
                message = messages.recv() => match read(message) {
                    Some(letter) => letter,
                    None => return "it has ended",
                },
                _ = &mut task => return "it has ended",
                _ = asked.tick() => match live.ask("PING", Vec::new(), Instant::now() + PATIENCE).await {
                    Ok(_) => continue,
                    Err(_) => return "it does not answer",
                },
            };
            // Nobody reads them when only looking.
            let _ = self.post.send(letter);
        }
    }
}

fn read(message: Result<Message, broadcast::error::RecvError>) -> Option<Letter> {
    match message {
        Ok(message) => Some(message.value.into_bytes()),
        Err(broadcast::error::RecvError::Lagged(missed)) => {
            warn!(missed, "letters of other nodes were missed");
            Some(None)
        }
        Err(broadcast::error::RecvError::Closed) => None,
    }
}

impl Redis {
    /// The channel of a node.
    fn channel(&self, node: u64) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// Publishes to a node; whether anybody was listening.
    pub(in crate::backend::cluster) async fn publish(&self, node: u64, letter: Vec<u8>) -> Result<bool, Fault> {
        let channel = self.channel(node);
        let request = Request {
            command: "PUBLISH",
            args: vec![Value::from(channel.clone()), Value::Bytes(letter.into())],
            name: "PUBLISH",
            key: &channel,
            way: Way::Reader,
            repeat: Repeat::Once,
            durable: None,
        };
        Ok(int(&self.send(request).await?) > 0)
    }

    /// Listens to what is published to a node, and no longer to `before`. Nothing in the channel means
    /// that something may have been missed.
    pub(in crate::backend::cluster) async fn listen(&self, before: u64, node: u64) -> Result<(), Fault> {
        let (old, new) = (self.channel(before), self.channel(node));
        {
            let mut channels = self.letterbox.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.remove(&old);
            channels.insert(new.clone());
        }
        // Without a connection, the next one subscribes to it.
        let Some(live) = self.letterbox.live() else { return Ok(()) };
        // It listened to nothing anyone would say.
        let _ = live.client().unsubscribe(old).await;
        let subscribed = live.client().subscribe(new).await.is_ok();
        if !subscribed || live.ask("PING", Vec::new(), Instant::now() + PATIENCE).await.is_err() {
            live.end();
        }
        Ok(())
    }

    /// What is published to this node, for the first who asks; `None` when some of it may be missing.
    pub(in crate::backend::cluster) fn letters(&self) -> mpsc::UnboundedReceiver<Option<Bytes>> {
        let letters = self.letterbox.letters.lock().unwrap_or_else(PoisonError::into_inner).take();
        letters.unwrap_or_else(|| mpsc::unbounded_channel().1)
    }

    /// Closes all connections.
    pub(in crate::backend::cluster) fn close(&self) {
        self.letterbox.closed.notify_one();
        if let Some(live) = self.letterbox.live() {
            live.end();
        }
        self.servers.close();
    }
}
