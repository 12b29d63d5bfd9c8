//! Where the nodes of a test live: who is a member, who has which partition, and the post.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc};

use super::Counter;
use crate::{
    backend::{
        Acquired, Fut, Lease, Leases, Member, NodeInfo, Nodes, Owner,
        embedded::{Embedded, Options},
    },
    clock::Clock,
    error::{Error, Result},
    feature::Feature,
    runtime::{
        faults::{Faults, Plan},
        node::{Node, Start},
        settings::Settings,
    },
    testing::recorder::{Hold, Recorder, backend},
};

/// A store and who shares it.
pub(super) struct Town {
    pub(super) store: Arc<Embedded>,
    lease: Duration,
    register: Mutex<Register>,
}

#[derive(Default)]
struct Register {
    last: u64,
    members: BTreeMap<u64, Member>,
    owners: Vec<Owner>,
    boxes: HashMap<u64, mpsc::UnboundedSender<Vec<u8>>>,
    post_is_lost: bool,
}

/// A node's own way to the town.
pub(super) struct Way {
    town: Arc<Town>,
    me: AtomicU64,
    /// Every number it has had, and what it says of itself.
    mine: Mutex<Vec<u64>>,
    info: Mutex<NodeInfo>,
    mute: AtomicBool,
    heard: Notify,
    slot: mpsc::UnboundedSender<Vec<u8>>,
    letters: Mutex<Option<mpsc::UnboundedReceiver<Vec<u8>>>>,
}

/// A node that a test may do things to.
pub(super) struct Resident {
    pub(super) node: Node,
    pub(super) way: Arc<Way>,
    plan: Arc<Plan>,
}

impl Town {
    pub(super) fn new(partitions: u16, lease: Duration) -> Arc<Self> {
        let store = Embedded::in_memory(Options { partitions, ..Options::default() }).unwrap();
        let owners = vec![Owner::default(); usize::from(partitions)];
        let register = Mutex::new(Register { owners, ..Register::default() });
        Arc::new(Self { store: Arc::new(store), lease, register })
    }

    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap()
    }

    /// Starts a node; with threads of its own, or on the test's.
    pub(super) async fn start(self: &Arc<Self>, counter: Counter, arbiters: usize) -> Resident {
        self.start_as(counter, Settings { arbiters, ..Settings::default() }).await
    }

    /// Starts a node with these bounds.
    pub(super) async fn start_as(self: &Arc<Self>, counter: Counter, settings: Settings) -> Resident {
        self.start_held(counter, settings, None).await
    }

    /// Starts a node whose store's answers a test may hold back.
    pub(super) async fn start_held(
        self: &Arc<Self>,
        counter: Counter,
        settings: Settings,
        hold: Option<Arc<Hold>>,
    ) -> Resident {
        self.start_with(vec![Feature::new(counter)], settings, hold).await
    }

    /// Starts a node of a build that calls itself this.
    pub(super) async fn start_build(self: &Arc<Self>, build: &str, features: Vec<Feature>) -> Resident {
        self.start_with(features, Settings { arbiters: 0, build: build.into(), ..Settings::default() }, None).await
    }

    async fn start_with(
        self: &Arc<Self>,
        features: Vec<Feature>,
        settings: Settings,
        hold: Option<Arc<Hold>>,
    ) -> Resident {
        let (slot, letters) = mpsc::unbounded_channel();
        let way = Arc::new(Way {
            town: self.clone(),
            me: AtomicU64::new(0),
            mine: Mutex::default(),
            info: Mutex::default(),
            mute: AtomicBool::new(false),
            heard: Notify::new(),
            slot,
            letters: Mutex::new(Some(letters)),
        });
        let plan = Arc::<Plan>::default();
        let recorder = Recorder {
            store: self.store.clone(),
            history: Arc::default(),
            plan: plan.clone(),
            company: Some(way.clone()),
            hold,
        };
        let start = Start { backend: backend(recorder), features, settings, clock: Clock::System };
        let node = Node::start_with(start, Faults::planned(plan.clone()), 1).await.unwrap();
        Resident { node, way, plan }
    }

    /// Loses every letter from now on, or none.
    pub(super) fn lose_post(&self, lost: bool) {
        self.register().post_is_lost = lost;
    }

    /// What giving up a node does, to one that lives.
    pub(super) fn expel(&self, id: u64) {
        self.register().members.remove(&id);
    }

    /// How many partitions each member owns.
    pub(super) fn shares(&self) -> Vec<usize> {
        let register = self.register();
        let of = |id: &u64| register.owners.iter().filter(|owner| owner.node == *id).count();
        register.members.keys().map(of).collect()
    }

    /// Whether the members own everything, and nobody else anything.
    pub(super) fn is_settled(&self) -> bool {
        let register = self.register();
        let members: Vec<u64> = register.members.keys().copied().collect();
        (0u16..)
            .zip(&register.owners)
            .all(|(partition, owner)| crate::runtime::assign::owner(&members, partition) == Some(owner.node))
    }
}

impl Resident {
    pub(super) fn id(&self) -> u64 {
        self.way.me()
    }

    /// The process dies: nothing of it answers any more.
    pub(super) fn kill(&self) {
        self.plan.die();
        self.way.town.register().boxes.remove(&self.id());
    }

    /// Its beats are not answered from now on.
    pub(super) fn mute(&self) {
        self.way.mute.store(true, Ordering::SeqCst);
    }

    pub(super) fn unmute(&self) {
        self.way.mute.store(false, Ordering::SeqCst);
        self.way.heard.notify_one();
    }
}

impl Leases for Way {
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Acquired>> {
        Box::pin(async move {
            let mine = {
                let mut register = self.town.register();
                let owner = register.owners[usize::from(partition)].node;
                if owner != self.me() && register.members.contains_key(&owner) {
                    return Ok(Acquired::Held(owner));
                }
                // What the store is about to say, so that nobody sees a new owner with an old epoch.
                let owner = &mut register.owners[usize::from(partition)];
                let mine = self.mine.lock().unwrap().contains(&owner.node);
                *owner = Owner { node: self.me(), epoch: owner.epoch + 1 };
                mine
            };
            let mut acquired = self.town.store.acquire(partition).await?;
            if let Acquired::Taken(lease) = &mut acquired {
                lease.mine = mine;
                self.town.register().owners[usize::from(partition)].epoch = lease.epoch;
            }
            Ok(acquired)
        })
    }

    fn release(&self, lease: Lease) -> Fut<'_, Result<()>> {
        Box::pin(async move {
            self.town.store.release(lease).await?;
            let mut register = self.town.register();
            let owner = &mut register.owners[usize::from(lease.partition)];
            if owner.epoch == lease.epoch {
                owner.node = 0;
            }
            Ok(())
        })
    }

    fn owners(&self) -> Fut<'_, Result<Vec<Owner>>> {
        let owners = self.town.register().owners.clone();
        Box::pin(std::future::ready(Ok(owners)))
    }
}

impl Nodes for Way {
    fn me(&self) -> u64 {
        self.me.load(Ordering::SeqCst)
    }

    fn lease_time(&self) -> Option<Duration> {
        Some(self.town.lease)
    }

    fn join(&self) -> Fut<'_, Result<()>> {
        let mut register = self.town.register();
        register.last += 1;
        let id = register.last;
        register.members.insert(id, Member { id, beat: 0, info: self.info.lock().unwrap().clone() });
        self.mine.lock().unwrap().push(id);
        register.boxes.insert(id, self.slot.clone());
        self.me.store(id, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }

    fn beat(&self) -> Fut<'_, Result<Vec<Member>>> {
        Box::pin(async move {
            while self.mute.load(Ordering::SeqCst) {
                self.heard.notified().await;
            }
            let mut register = self.town.register();
            let Some(member) = register.members.get_mut(&self.me()) else {
                return Err(Error::terminal("given up").code("node_lost"));
            };
            member.beat += 1;
            member.info = self.info.lock().unwrap().clone();
            Ok(register.members.values().cloned().collect())
        })
    }

    fn give_up(&self, member: Member) -> Fut<'_, Result<bool>> {
        let mut register = self.town.register();
        let silent = register.members.get(&member.id).is_some_and(|present| present.beat == member.beat);
        if silent {
            register.members.remove(&member.id);
        }
        Box::pin(std::future::ready(Ok(silent)))
    }

    fn leave(&self) -> Fut<'_, Result<()>> {
        self.town.expel(self.me());
        Box::pin(std::future::ready(Ok(())))
    }

    fn post(&self, node: u64, letter: Vec<u8>) -> Fut<'_, Result<bool>> {
        let register = self.town.register();
        let sent = register.post_is_lost || register.boxes.get(&node).is_some_and(|slot| slot.send(letter).is_ok());
        Box::pin(std::future::ready(Ok(sent)))
    }

    fn letters(&self) -> Option<mpsc::UnboundedReceiver<Vec<u8>>> {
        self.letters.lock().unwrap().take()
    }

    fn describes(&self, build: &str, declines: Vec<u16>) {
        let mut info = self.info.lock().unwrap();
        (info.build, info.declines) = (Some(build.to_owned()), declines);
    }

    fn announce(&self, _: &str) -> Fut<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
