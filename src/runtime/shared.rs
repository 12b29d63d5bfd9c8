//! What all threads of a node share. Hot paths take no lock here: maps are sharded, and most
//! messages touch none of them.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use super::{
    alone::Alone, begun::Begun, broadcast::Listeners, deliver::Waiting, faults::Faults, kind::Kind, letter::Letter,
    others::Others, pausing::Known, settings::Settings, supervisor::Beat, turnstile::Turnstile, view::View,
};
use crate::{
    address::Address,
    backend::{Backend, Tenant, turns::Company},
    clock::Clock,
    coordination::{limit::Limits, live::hub::Hub, session::Sessions},
    envelope::{Position, ReplyTo},
    error::Result,
    metrics::Metrics,
    request::RequestId,
};

/// A node's shared parts.
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) sessions: Sessions,
    pub(crate) settings: Settings,
    pub(crate) kinds: HashMap<&'static str, Arc<dyn Kind>>,
    pub(crate) waiting: Waiting,
    /// What was told of messages whose commit is decided and has not ended.
    pub(crate) told: DashMap<Position, View>,
    pub(crate) listeners: Listeners,
    pub(crate) live: Hub,
    /// The other nodes, where there can be any.
    pub(crate) others: Option<Others>,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
    /// What is paused, and held while somebody reads that.
    pub(crate) pausing: Known,
    pub(crate) looking: tokio::sync::Mutex<()>,
    pub(crate) draining: AtomicBool,
    pub(crate) alone: Alone,
    /// Attempts counted by this process.
    pub(crate) begun: Begun,
    pub(crate) seed: u64,
    /// When this node was started, in milliseconds since the Unix epoch.
    pub(crate) since: i64,
    /// The URL of its gateway.
    pub(crate) listen: OnceLock<String>,
    /// Whose commands and commits there were lately.
    pub(crate) company: Company,
    /// Where commits of all partitions pass; the store of a single node takes turns by itself.
    turnstile: Option<Turnstile>,
    /// How many partitions are open here.
    open: AtomicUsize,
    secret: [u8; 32],
    tokens: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        clock: Clock,
        settings: Settings,
        kinds: HashMap<&'static str, Arc<dyn Kind>>,
        faults: Faults,
        seed: u64,
    ) -> Result<Self> {
        let metrics = Metrics::default();
        let (store, declared) = (backend.clone(), &settings.limits);
        let limits = Limits::new(store, clock.clone(), metrics.clone(), declared, kinds.keys().copied())?;
        Ok(Self {
            secret: backend.secret(),
            sessions: Sessions::new(backend.clone(), clock.clone(), metrics.clone(), settings.session.clone()),
            others: backend.lease_time().map(|_| Others::default()),
            since: clock.now(),
            listen: OnceLock::new(),
            company: Company::default(),
            turnstile: backend.lease_time().map(|_| Turnstile::default()),
            open: AtomicUsize::new(0),
            backend,
            clock,
            metrics,
            limits,
            settings,
            kinds,
            waiting: Waiting::default(),
            told: DashMap::new(),
            listeners: Listeners::default(),
            live: Hub::default(),
            faults,
            pausing: Known::default(),
            looking: tokio::sync::Mutex::new(()),
            draining: AtomicBool::new(false),
            alone: Alone::default(),
            begun: Begun::default(),
            seed,
            // Envelopes outlive the process that waits for them: a token must mean nothing to the next
            // one. Below 2^53 it survives every JSON parser.
            tokens: AtomicU64::new(uuid::Uuid::now_v7().as_u128() as u64 >> 12),
        })
    }

    /// Whose an actor is.
    pub(crate) fn tenant(&self, address: &Address) -> Option<Tenant> {
        self.kinds.get(address.kind())?.belongs(address.key()).tenant
    }

    /// Where commits pass while several tenants are there, if there is such a place.
    pub(crate) fn turnstile(&self) -> Option<&Turnstile> {
        self.turnstile.as_ref()
    }

    /// A thread is given up: what the others share goes on without what it holds.
    pub(crate) fn give_up(&self, thread: &Arc<Beat>) {
        self.alone.look_again();
        if let Some(turnstile) = &self.turnstile {
            turnstile.give_up(thread);
        }
    }

    /// What one tenant may have of a mailbox, in bytes; 0 where that is all of it.
    pub(crate) fn share(&self) -> u64 {
        match u64::from(self.settings.tenant_share) {
            0 | 100.. => 0,
            share => (self.backend.budget() / 100).saturating_mul(share).max(1),
        }
    }

    /// Lets everybody who follows a message look again, on whichever node.
    pub(crate) fn changed(&self, position: Position) {
        for node in self.waiting.changed(position) {
            self.write(node, &Letter::Changed { position });
        }
    }

    /// Like [`Shared::changed`], for the last time.
    pub(crate) fn ended(&self, position: Position) {
        self.changed(position);
        self.waiting.ended(position);
    }

    /// Whether somebody may wait for this reply, here or on another node.
    pub(crate) fn awaits(&self, reply: ReplyTo) -> bool {
        self.waiting.expects(reply.token) || self.is_elsewhere(reply.node)
    }

    /// What was told of a message whose commit has not ended.
    pub(crate) fn told(&self, position: Position) -> Option<View> {
        self.told.get(&position).map(|view| view.clone())
    }

    /// Answers whoever waits, on whichever node.
    pub(crate) fn answer(&self, reply: ReplyTo, view: View) {
        if self.waiting.expects(reply.token) {
            self.waiting.reply(reply.token, view);
        } else if self.is_elsewhere(reply.node) {
            self.write(reply.node, &Letter::Reply { token: reply.token, view });
        }
    }

    fn is_elsewhere(&self, node: u64) -> bool {
        self.others.is_some() && node != 0 && node != self.backend.me()
    }

    /// Posts a letter, where there is anybody to post to.
    pub(crate) fn write(&self, node: u64, letter: &Letter) {
        if let Some(others) = &self.others {
            others.write(node, letter);
        }
    }

    /// Something changed that the node may have to act on.
    pub(crate) fn look(&self) {
        if let Some(others) = &self.others {
            others.look.notify_one();
        }
    }

    /// How many partitions are open here.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open(&self, open: usize) {
        self.open.store(open, Ordering::Relaxed);
    }

    pub(crate) fn id(&self, position: Position) -> RequestId {
        RequestId::seal(position, &self.secret)
    }

    /// What the idempotency keys of a command's steps begin with.
    pub(crate) fn step_key(&self, position: Position) -> String {
        RequestId::step_key(position, &self.secret)
    }

    /// An id made of a text, that nobody can make who does not know the store's secret.
    pub(crate) fn made_of(&self, text: &str) -> String {
        RequestId::made_of(text, &self.secret).to_string()
    }

    /// Where the message of an id is now; `None` when the id is none of this store's.
    pub(crate) async fn position(&self, id: RequestId) -> Result<Option<Position>> {
        match id.open(&self.secret) {
            Some(position) => self.backend.locate(position).await.map(Some),
            None => Ok(None),
        }
    }

    /// A random number; in a test, one that follows from its seed.
    pub(crate) fn random(&self) -> u64 {
        if self.faults.planned_at_all() {
            return xxhash_rust::xxh3::xxh3_64_with_seed(&self.token().to_le_bytes(), self.seed);
        }
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        // The fixed bits of either half are made up for by the other.
        high ^ low.rotate_left(32)
    }

    pub(crate) fn token(&self) -> u64 {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A number in `0..1` that is the same for the same attempt of the same message under the same
    /// seed: jitter that spreads in production and repeats in tests.
    pub(crate) fn jitter(&self, position: Position, failures: u32) -> f64 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&position.packed().to_le_bytes());
        bytes[8..].copy_from_slice(&failures.to_le_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.seed);
        (hash >> 11) as f64 / (1u64 << 53) as f64
    }
}
