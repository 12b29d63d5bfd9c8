//! The masters and the ways to them: which server has a key, and a [`Link`] for each use of each.
//!
//! Each link has a client of its own, so that a server that stalls or dies holds up its own keys only.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use fred::types::{Value, config::Server};
use tokio::{runtime::Handle, sync::Mutex, time::Instant};
use tracing::{debug, info};

use super::{
    address::{Address, Masters, Purpose},
    link::Link,
    live::Live,
    table::Table,
};
use crate::error::{Error, Result};

/// How long a server has to say where the slots are.
const ASKING: Duration = Duration::from_secs(1);
/// It is not asked again sooner than this.
const FRESH: Duration = Duration::from_millis(100);

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A writing one.
    Lane(usize),
    /// Reading, which may be much.
    Reader,
    /// What must be on time: heartbeats.
    Beat,
}

/// A master.
pub(super) struct Node {
    /// In a cluster, which it is.
    server: Option<Server>,
    address: Arc<Address>,
    lanes: Vec<OnceLock<Arc<Link>>>,
    reader: OnceLock<Arc<Link>>,
    beat: OnceLock<Arc<Link>>,
}

impl Node {
    fn new(server: Option<Server>, address: &Arc<Address>, lanes: usize) -> Arc<Self> {
        let lanes = (0..lanes).map(|_| OnceLock::new()).collect();
        Arc::new(Self { server, address: address.clone(), lanes, reader: OnceLock::new(), beat: OnceLock::new() })
    }

    /// The way to it; opened when it is first used.
    pub(super) fn link(&self, way: Way) -> &Arc<Link> {
        let (at, what) = match way {
            Way::Lane(lane) => (&self.lanes[lane % self.lanes.len()], "lane"),
            Way::Reader => (&self.reader, "reader"),
            Way::Beat => (&self.beat, "heartbeats"),
        };
        at.get_or_init(|| Link::start(self.address.clone(), self.server.clone(), what))
    }

    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.lanes.iter().chain([&self.reader, &self.beat]).filter_map(OnceLock::get)
    }

    /// Has all its connections asked anew for the master.
    pub(super) fn renew(&self) {
        self.links().for_each(|link| link.renew());
    }

    /// Its name, as messages give it.
    pub(super) fn name(&self) -> String {
        self.server.as_ref().map_or_else(|| "Redis".to_owned(), ToString::to_string)
    }

    /// Which server of a cluster it is.
    pub(super) fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }
}

/// All masters.
pub(super) struct Servers {
    address: Arc<Address>,
    lanes: usize,
    map: RwLock<Arc<Map>>,
    /// When the map was last asked for; held while it is.
    asked: Mutex<Instant>,
    /// The store's threads.
    runtime: Handle,
}

struct Map {
    nodes: Vec<Arc<Node>>,
    /// None where there is one master.
    table: Option<Table>,
}

impl Servers {
    /// Finds them. Terminal error when the address names no cluster and should.
    pub(super) async fn find(address: Address, lanes: usize) -> Result<Self> {
        let address = Arc::new(address);
        let map = match address.masters() {
            Masters::One => {
                // Its links would try for ever; at the start, the first error is the answer.
                let opened = Live::open(&address, None, Purpose::Calls).await;
                opened.map_err(|why| Error::new(format!("connecting to Redis: {why}")).code("redis"))?;
                Map { nodes: vec![Node::new(None, &address, lanes)], table: None }
            }
            Masters::Cluster(hosts) => {
                let mut why = "it names no host".to_owned();
                let mut table = None;
                for host in hosts {
                    match ask(&address, host).await {
                        Ok(found) => {
                            table = Some(found);
                            break;
                        }
                        Err(error) => why = format!("{host}: {error}"),
                    }
                }
                let Some(table) = table else {
                    return Err(Error::new(format!("connecting to the Redis Cluster: {why}")).code("redis"));
                };
                let nodes = table.servers().iter().map(|server| Node::new(Some(server.clone()), &address, lanes));
                Map { nodes: nodes.collect(), table: Some(table) }
            }
        };
        let (map, asked) = (RwLock::new(Arc::new(map)), Mutex::new(Instant::now()));
        Ok(Self { address, lanes, map, asked, runtime: Handle::current() })
    }

    /// How many writing connections there are to each.
    pub(super) fn lanes(&self) -> usize {
        self.lanes
    }

    /// How they are reached.
    pub(super) fn address(&self) -> &Arc<Address> {
        &self.address
    }

    fn map(&self) -> Arc<Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.map().nodes.clone()
    }

    /// The one that has a key; `None` when the cluster has none for it.
    pub(super) fn of(&self, key: &str) -> Option<Arc<Node>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let index = match &map.table {
            None => 0,
            Some(table) => table.at(fred::util::redis_keyslot(key.as_bytes()))?,
        };
        map.nodes.get(index).cloned()
    }

    /// Notes that a slot has moved.
    pub(super) fn moved(&self, slot: u16, server: Server) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let Some(mut table) = map.table.clone() else { return };
        table.moved(slot, server);
        *map = Arc::new(self.with(table, &map.nodes));
    }

    /// A map of a table, with the nodes that are known.
    fn with(&self, table: Table, known: &[Arc<Node>]) -> Map {
        let node = |server: &Server| {
            let known = known.iter().find(|node| node.server.as_ref() == Some(server));
            known.cloned().unwrap_or_else(|| Node::new(Some(server.clone()), &self.address, self.lanes))
        };
        Map { nodes: table.servers().iter().map(node).collect(), table: Some(table) }
    }

    /// Asks the cluster where the slots are, unless that was just done. Whoever answers is believed: one that
    /// is behind is corrected by the server that it names. On the store's threads, so that a caller that stands still
    /// in it holds up no other.
    pub(super) async fn refresh(self: &Arc<Self>) {
        let servers = self.clone();
        // It fails with the store's threads only.
        let _ = self.runtime.spawn(async move { servers.ask_anew().await }).await;
    }

    async fn ask_anew(&self) {
        let Masters::Cluster(seeds) = self.address.masters() else { return };
        let mut asked = self.asked.lock().await;
        if asked.elapsed() < FRESH {
            return;
        }
        let map = self.map();
        // Those that are connected answer at once; the others may be why it is asked.
        let (open, rest): (Vec<_>, Vec<_>) = map.nodes.iter().partition(|node| node.link(Way::Reader).is_open());
        let mut found = None;
        for node in open {
            let Some(server) = &node.server else { continue };
            if let Ok(table) = known_by(node, server).await {
                found = Some(table);
                break;
            }
        }
        if found.is_none() {
            for server in rest.iter().filter_map(|node| node.server.as_ref()).chain(seeds) {
                // A task of its own, which ends what it began: connecting must not be cut short.
                let (address, host) = (self.address.clone(), server.clone());
                let asking = tokio::spawn(async move { ask(&address, &host).await });
                match tokio::time::timeout(ASKING, asking).await {
                    Ok(Ok(Ok(table))) => {
                        found = Some(table);
                        break;
                    }
                    other => debug!(%server, ?other, "it does not say where the slots are"),
                }
            }
        }
        *asked = Instant::now();
        if let Some(table) = found {
            self.set(table);
        }
    }

    fn set(&self, table: Table) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if map.table.as_ref() == Some(&table) {
            return;
        }
        info!(masters = table.servers().len(), "the slots of the Redis Cluster have moved");
        let next = self.with(table, &map.nodes);
        for node in map.nodes.iter().filter(|node| !next.nodes.iter().any(|other| Arc::ptr_eq(node, other))) {
            node.links().for_each(|link| link.clone().part());
        }
        *map = Arc::new(next);
    }

    /// Closes all connections.
    pub(super) fn close(&self) {
        self.map().nodes.iter().flat_map(|node| node.links()).for_each(|link| link.close());
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.close();
    }
}

fn slots() -> Vec<Value> {
    vec![Value::from("SLOTS")]
}

/// The slots as a server says over a connection that is open.
async fn known_by(node: &Node, server: &Server) -> Result<Table, String> {
    let until = Instant::now() + ASKING;
    let live = node.link(Way::Reader).live(until).await?;
    let answer = live.ask("CLUSTER", slots(), until).await.map_err(|e| e.to_string())?;
    Table::read(answer, server).ok_or_else(|| "it knows of no slots".to_owned())
}

/// The slots as a server says over a connection of its own.
async fn ask(address: &Address, server: &Server) -> Result<Table, String> {
    let (live, _) = Live::open(address, Some(server), Purpose::Calls).await?;
    let answer = live.ask("CLUSTER", slots(), Instant::now() + ASKING).await.map_err(|e| e.to_string())?;
    Table::read(answer, server).ok_or_else(|| "it knows of no slots".to_owned())
}
