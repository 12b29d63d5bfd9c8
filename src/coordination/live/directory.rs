//! Who is connected where, asked of all nodes. Invariant: a node that did not answer is named, so that what
//! is missing is never taken for nothing.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    hub::Hub,
    line::{Outlet, Transport},
    said::Said,
};
use crate::{
    error::Result,
    runtime::{node::Node, shared::Shared},
};

/// How long nodes have to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most channels, and most connections, that one node tells of.
const MOST: usize = 200;

/// The live connections of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// What each node has, by its number.
    pub nodes: Vec<NodeConnections>,
    /// Nodes that did not answer within a second.
    pub silent: Vec<u64>,
    /// The channels with most connections, most first. Each node tells of its 200.
    pub channels: Vec<ChannelConnections>,
    /// If one channel was asked for, its connections: of each node the first 200.
    pub connections: Vec<Connection>,
}

/// What one node has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConnections {
    /// The node's number.
    pub node: u64,
    /// Open WebSockets.
    pub websockets: usize,
    /// Open event streams.
    pub streams: usize,
    /// Followers within the program.
    pub programs: usize,
    /// Channels that it follows.
    pub channels: usize,
}

/// How many connections a channel has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelConnections {
    /// The channel.
    pub channel: String,
    /// On all nodes.
    pub connections: usize,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id, to disconnect it by.
    pub id: String,
    /// The node that has it.
    pub node: u64,
    /// How events get to its client.
    pub transport: Transport,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub since: i64,
    /// Events it was sent.
    pub sent: u64,
    /// Bytes of events that wait for it.
    pub queued: usize,
}

/// One node's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(super) node: u64,
    #[serde(default)]
    pub(super) has: NodeConnections,
    #[serde(default)]
    pub(super) channels: Vec<ChannelConnections>,
    #[serde(default)]
    pub(super) connections: Vec<Connection>,
    #[serde(default)]
    pub(super) closed: usize,
}

impl Hub {
    /// What there is here.
    pub(super) fn count(&self, shared: &Shared, channel: Option<&str>) -> Counted {
        let node = shared.backend.me();
        let mut counted = Counted { node, has: NodeConnections { node, ..Default::default() }, ..Default::default() };
        let mut add = |name: &str, outlets: &[Outlet]| {
            let of = |transport| outlets.iter().filter(|outlet| outlet.line.transport == transport).count();
            counted.has.websockets += of(Transport::Websocket);
            counted.has.streams += of(Transport::Events);
            counted.has.programs += of(Transport::Program);
            counted.has.channels += 1;
            counted.channels.push(ChannelConnections { channel: name.to_owned(), connections: outlets.len() });
        };
        match channel {
            None => self.feeds.iter().for_each(|feed| add(feed.key(), &feed.outlets)),
            Some(channel) => {
                if let Some(feed) = self.feeds.get(channel) {
                    add(channel, &feed.outlets);
                    counted.connections = feed.outlets.iter().take(MOST).map(|outlet| one(outlet, node)).collect();
                }
            }
        }
        top(&mut counted.channels, MOST);
        // They are posted, and a letter is bounded.
        let mut bytes = 0;
        counted.channels.retain(|one| {
            bytes += one.channel.len() + 40;
            bytes < 32 << 10
        });
        counted
    }
}

fn one(outlet: &Outlet, node: u64) -> Connection {
    let line = &outlet.line;
    Connection {
        id: line.id.to_string(),
        node,
        transport: line.transport,
        since: line.since,
        sent: line.sent.load(Relaxed),
        queued: line.queued(),
    }
}

/// The channels with most connections, most first.
fn top(channels: &mut Vec<ChannelConnections>, most: usize) {
    channels.retain(|one| one.connections > 0);
    channels.sort_unstable_by(|a, b| (b.connections, &a.channel).cmp(&(a.connections, &b.channel)));
    channels.truncate(most);
}

impl Node {
    /// The live connections of all nodes: how many each has and which channels have most; of one channel,
    /// the connections themselves. Nodes are given a second to answer.
    pub async fn connections(&self, channel: Option<&str>) -> Result<Connections> {
        let channel = channel.map(str::to_owned);
        let (counted, silent) = self.gather(|from, token| Said::Count { from, token, channel }).await?;
        let mut all = Connections { nodes: Vec::new(), silent, channels: Vec::new(), connections: Vec::new() };
        for counted in counted {
            all.nodes.push(counted.has);
            all.connections.extend(counted.connections);
            for one in counted.channels {
                match all.channels.iter_mut().find(|known| known.channel == one.channel) {
                    Some(known) => known.connections += one.connections,
                    None => all.channels.push(one),
                }
            }
        }
        all.nodes.sort_unstable_by_key(|node| node.node);
        top(&mut all.channels, MOST);
        Ok(all)
    }

    /// Closes all connections of a channel on all nodes, or the one with this id; how many there were, on
    /// the nodes that answered within a second. Their clients are told not to come back, but nothing keeps
    /// them from it: close the door first, then call this.
    pub async fn disconnect(&self, channel: &str, connection: Option<&str>) -> Result<usize> {
        let (channel, connection) = (channel.to_owned(), connection.map(str::to_owned));
        let close = |from, token| Said::Close { from, token, channel, connection };
        let (counted, _) = self.gather(close).await?;
        Ok(counted.iter().map(|counted| counted.closed).sum())
    }

    /// Asks all nodes; what they answered, and which did not.
    async fn gather(&self, ask: impl FnOnce(u64, u64) -> Said) -> Result<(Vec<Counted>, Vec<u64>)> {
        let shared = self.shared();
        let (me, token) = (shared.backend.me(), shared.token());
        let mut silent: Vec<u64> = match &shared.others {
            Some(others) => others.members().iter().map(|member| member.id).collect(),
            None => Vec::new(),
        };
        if !silent.contains(&me) {
            silent.push(me);
        }
        let (answer, mut answers) = mpsc::unbounded_channel();
        let _asking = Asking::new(shared, token, answer);
        shared.cast(ask(me, token).cast()?.only(silent.clone()));
        let mut counted: Vec<Counted> = Vec::new();
        let all = async {
            while !silent.is_empty() {
                let Some(answer) = answers.recv().await else { return };
                silent.retain(|node| *node != answer.node);
                counted.push(answer);
            }
        };
        // Whoever does not answer in time is named.
        let _ = tokio::time::timeout(PATIENCE, all).await;
        Ok((counted, silent))
    }
}

/// While this lives, answers are taken.
struct Asking {
    shared: Arc<Shared>,
    token: u64,
}

impl Asking {
    fn new(shared: &Arc<Shared>, token: u64, answer: mpsc::UnboundedSender<Counted>) -> Self {
        shared.live.asks.insert(token, answer);
        Self { shared: shared.clone(), token }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shared.live.asks.remove(&self.token);
    }
}
