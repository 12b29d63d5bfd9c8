//! The handle on a node's limits.
//!
//! Invariant: nothing is given that the store did not give, unless the store cannot answer and the limit
//! says what holds then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use super::{
    admit::Admission,
    ahead::Ahead,
    book::Book,
    declared::{Declared, Limit, Unavailable},
    draw::PARTS,
    gate::Gate,
    permits::{Permit, Permits},
};
use crate::{
    backend::{
        Backend,
        bucket::Buckets,
        limits::{LONGEST_WAIT, Taken},
    },
    clock::Clock,
    error::{Error, Result},
    metrics::Metrics,
};

/// The limits of a node. Cheap to clone, usable from any thread.
///
/// A limit is asked for by its name, or by `name/who`: then each `who` (a tenant, a customer) has a
/// bucket and permits of its own.
///
/// ```
/// # use greenroom::prelude::*;
/// # use greenroom::coordination::limit::Limit;
/// # use std::time::Duration;
/// # let dir = tempfile::tempdir()?;
/// let mail = Limit::rate(2, Duration::from_secs(3600)).at_once(1);
/// App::embedded(dir.path()).feature(Feature::default().limit("mail", mail)).run_until(|node| async move {
///     let limits = node.limits();
///     assert!(limits.try_take("mail/ann", 2).await?.allowed());
///     assert!(!limits.try_take("mail/ann", 1).await?.allowed());
///     assert!(limits.try_take("mail/bob", 1).await?.allowed());
///     let permit = limits.enter("mail/ann").await?;
///     assert!(limits.try_enter("mail/ann").await?.is_none());
///     drop(permit);
///     Ok(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Limits {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Backend>,
    pub(super) clock: Clock,
    named: HashMap<Box<str>, Arc<Declared>>,
    gates: HashMap<&'static str, Arc<Gate>>,
    /// All limits of this node, in the order they were declared.
    pub(super) all: Mutex<Vec<Arc<Declared>>>,
    /// Where others use the same buckets.
    pub(super) ahead: Option<Ahead>,
    pub(super) permits: Arc<Permits>,
    /// What holds while the store is out.
    pub(super) local: Buckets,
    /// When each part of the store may be asked again; 0 where it answers. A store of several servers may
    /// lose one of them.
    pub(super) out: [AtomicU64; PARTS],
    pub(super) numbers: AtomicU64,
    born: Instant,
    metrics: Metrics,
}

/// What the limits of a node are made of.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// By name; of two of one name the later one counts.
    pub named: Vec<(String, Limit)>,
    /// Of all commands of a kind together; of two the later one counts.
    pub kinds: Vec<(String, Limit)>,
    /// Of the commands of each key of a kind; of two the later one counts.
    pub keys: Vec<(String, Limit)>,
}

impl Limits {
    /// Checks what is declared. Terminal error naming the limit that is none, or the kind that is unknown.
    pub(crate) fn new(
        store: Arc<dyn Backend>,
        clock: Clock,
        metrics: Metrics,
        declared: &Declarations,
        kinds: impl Iterator<Item = &'static str>,
    ) -> Result<Self> {
        let mut all = Vec::new();
        let mut declare = |name: String, limit: &Limit, otherwise| -> Result<Arc<Declared>> {
            let declared = limit.declare(&name, otherwise, Book::new(&metrics, &name))?;
            all.push(declared.clone());
            Ok(declared)
        };
        // Declared twice, the later one counts: the configuration comes last.
        let last = |all: &[(String, Limit)]| all.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
        let mut named = HashMap::new();
        for (name, limit) in last(&declared.named) {
            if name.is_empty() || name.contains(['/', ':']) || name.len() > 64 {
                let error = format!("a limit cannot be called {name:?}: expected up to 64 characters without / and :");
                return Err(Error::terminal(error).code("bad_limit"));
            }
            named.insert(name.clone().into(), declare(name, &limit, Unavailable::Refuse)?);
        }
        let (of_kind, of_key) = (last(&declared.kinds), last(&declared.keys));
        let mut gates = HashMap::new();
        let kinds: Vec<&'static str> = kinds.collect();
        for kind in of_kind.keys().chain(of_key.keys()) {
            let Some(known) = kinds.iter().find(|known| *known == kind) else {
                let error = format!("a limit is of the kind {kind:?}, which no feature has");
                return Err(Error::terminal(error).code("bad_limit"));
            };
            if gates.contains_key(known) {
                continue;
            }
            let mut of = |what: &str, limit: Option<&Limit>| {
                limit.map(|limit| declare(format!("{what}:{kind}"), limit, Unavailable::Local)).transpose()
            };
            if of_key.get(kind).is_some_and(|limit| limit.at_once.is_some()) {
                let error = format!("the limit of each key of {kind:?}: a key's commands run one at a time anyway");
                return Err(Error::terminal(error).code("bad_limit"));
            }
            let gate = Gate::new(of("kind", of_kind.get(kind))?, of("key", of_key.get(kind))?);
            gates.insert(*known, Arc::new(gate));
        }
        let inner = Inner {
            ahead: store.lease_time().map(|_| Ahead::default()),
            store,
            clock,
            named,
            gates,
            all: Mutex::new(all),
            permits: Permits::new(),
            local: Buckets::default(),
            out: Default::default(),
            numbers: AtomicU64::new(uuid::Uuid::now_v7().as_u128() as u64 >> 12),
            born: Instant::now(),
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A limit that is none of an actor's: of HTTP requests.
    pub(crate) fn declare(&self, name: String, limit: &Limit) -> Result<Arc<Declared>> {
        let declared = limit.declare(&name, Unavailable::Local, Book::new(&self.inner.metrics, &name))?;
        self.inner.all.lock().unwrap_or_else(PoisonError::into_inner).push(declared.clone());
        Ok(declared)
    }

    /// What commands of a kind pass before they begin.
    pub(crate) fn gate(&self, kind: &str) -> Option<&Arc<Gate>> {
        if self.inner.gates.is_empty() { None } else { self.inner.gates.get(kind) }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The time by a clock that only rises, in milliseconds.
    pub(super) fn tick(&self) -> u64 {
        match &self.inner.clock {
            Clock::System | Clock::Bounded(_) => self.inner.born.elapsed().as_millis() as u64,
            clock => clock.now().max(0) as u64,
        }
    }

    /// The time for the store: only tests have a clock that is not its own.
    pub(super) fn given(&self) -> Option<i64> {
        match &self.inner.clock {
            Clock::System | Clock::Bounded(_) => None,
            clock => Some(clock.now()),
        }
    }

    /// The limit of a name, and for whom.
    pub(crate) fn find<'a>(&self, limit: &'a str) -> Result<(Arc<Declared>, &'a str)> {
        let (name, who) = limit.split_once('/').unwrap_or((limit, ""));
        let declared = self.inner.named.get(name).cloned();
        let declared = declared.ok_or_else(|| {
            let error = format!("no limit is called {name:?}: declare it by Feature::limit or in [[limits.named]]");
            Error::terminal(error).code("unknown_limit")
        })?;
        Ok((declared, who))
    }

    /// Takes tokens if they are there. Terminal error for a limit that is unknown, or can never give so
    /// many; retryable (`limit_unavailable`) when the store cannot answer and the limit refuses then.
    pub async fn try_take(&self, limit: &str, cost: u64) -> Result<Taken> {
        let (declared, who) = self.find(limit)?;
        let drawn = self.draw(&declared, who, cost, Duration::ZERO).await?;
        let tightest = drawn.each().min_by_key(|taken| taken.remaining);
        let none = Taken { given: 0, wait: 0, remaining: 0, resets: 0 };
        let given = if drawn.allowed() { cost } else { 0 };
        Ok(Taken { given, wait: drawn.wait(), ..tightest.unwrap_or(none) })
    }

    /// Takes tokens, and waits until they are there: in order with all others that wait, over all nodes.
    /// Errors like [`try_take`](Limits::try_take); retryable (`limited`) when that would take longer than a
    /// day.
    pub async fn take(&self, limit: &str, cost: u64) -> Result<()> {
        self.take_within(limit, cost, LONGEST_WAIT).await
    }

    /// Like [`take`](Limits::take), if it takes no longer than this.
    pub async fn take_within(&self, limit: &str, cost: u64, within: Duration) -> Result<()> {
        let wait = self.book(limit, cost, within).await?;
        self.inner.clock.sleep(wait).await;
        Ok(())
    }

    /// Takes tokens whose time comes within so long; how long that is. They are spent either way.
    pub(crate) async fn book(&self, limit: &str, cost: u64, within: Duration) -> Result<Duration> {
        let (declared, who) = self.find(limit)?;
        let drawn = self.draw(&declared, who, cost, within.min(LONGEST_WAIT)).await?;
        let wait = Duration::from_millis(drawn.wait());
        if drawn.allowed() {
            return Ok(wait);
        }
        Err(Error::new(format!("the limit {limit:?} gives nothing for {wait:?}")).code("limited").retry_after(wait))
    }

    /// Takes a permit if one is free. Errors like [`try_take`](Limits::try_take); permits are never given
    /// while the store cannot answer.
    pub async fn try_enter(&self, limit: &str) -> Result<Option<Permit>> {
        self.enter_within(limit, Duration::ZERO).await
    }

    /// Takes a permit, and waits until one is free: in order with the others of this node, and the nodes
    /// in turn.
    pub async fn enter(&self, limit: &str) -> Result<Permit> {
        let (declared, who) = self.find(limit)?;
        let mut since = None;
        loop {
            match self.admit(&declared, who, since, LONGEST_WAIT).await? {
                Admission::In(permit) => return Ok(permit),
                Admission::Wait(waits) => since = Some(waits),
            }
        }
    }

    /// Like [`enter`](Limits::enter), if it takes no longer than this.
    pub async fn enter_within(&self, limit: &str, within: Duration) -> Result<Option<Permit>> {
        let (declared, who) = self.find(limit)?;
        match self.admit(&declared, who, None, within).await? {
            Admission::In(permit) => Ok(Some(permit)),
            Admission::Wait(_) => Ok(None),
        }
    }
}
