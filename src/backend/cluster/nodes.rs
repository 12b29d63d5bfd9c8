//! Nodes and leases in Redis. Nobody's clock is compared with anybody's: a node that lives changes its
//! beat, and others measure by their own monotonic clock how long it has not.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::types::Value;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Cluster, Core, append,
    meta::Meta,
    mongo::partitions::Reserved,
    outbox,
    place::Known,
    redis::{arg, int, list, number},
    upgrade,
    warm::Standing,
};
use crate::{
    backend::{Acquired, Fut, Lease, Leases, Member, NodeInfo, Nodes, Owner},
    clock::Clock,
    error::{Error, Result},
};

/// What a node that heard nothing looks at now and then: letters are sent at most once.
const LOOK: Duration = Duration::from_secs(5);

/// How often taking a partition is tried, each time with another epoch.
const TRIES: usize = 5;

/// This node among the others.
#[derive(Default)]
pub(super) struct Membership {
    me: AtomicU64,
    /// Drawn at random whenever it joins: a server that was rolled back may give a number twice.
    token: AtomicU64,
    beat: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    info: NodeInfo,
    /// The highest number any node had at the last beat.
    highest: u64,
    /// The highest number of an owner that was met.
    met: u64,
    /// Number and token of each member at the last beat.
    alive: Vec<(u64, String)>,
    /// Every number this process has had.
    mine: Vec<u64>,
}

impl Membership {
    /// This node's number.
    pub(super) fn me(&self) -> u64 {
        self.me.load(Ordering::SeqCst)
    }

    /// What tells this node from another one with its number.
    pub(super) fn token(&self) -> u64 {
        self.token.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An owner was met. One that joined after this node's last beat may live, so it keeps what it has until the next
    /// one; that beat makes the counter of numbers as high as the owner's, if it was set back, and then an owner that is no
    /// member has none any more. A number is given above the counter, so no node that comes has an owner's.
    fn meets(&self, owner: u64) {
        let mut inner = self.lock();
        inner.met = inner.met.max(owner);
    }

    fn info(&self) -> String {
        // Strings and numbers always serialise.
        serde_json::to_string(&self.lock().info).unwrap_or_default()
    }
}

pub(super) async fn join(core: &Core) -> Result<()> {
    let membership = &core.membership;
    {
        let info = &mut membership.lock().info;
        info.pid = std::process::id();
        info.version = env!("CARGO_PKG_VERSION").into();
        info.since = Clock::System.now();
    }
    core.places.iter().for_each(|place| place.leave());
    let before = membership.me();
    if before != 0 {
        // It begins anew: nobody waits for what it was.
        core.redis.nodes("leave", vec![number(before), number(membership.token())]).await?;
    }
    // Half of the random bits: the other half are the version's, and no number of Lua's has more than 53.
    let token = uuid::Uuid::new_v4().as_u64_pair().0 >> 16;
    let me = int(&core.redis.nodes("join", vec![number(token), arg(membership.info())]).await?) as u64;
    membership.token.store(token, Ordering::SeqCst);
    core.redis.listen(before, me).await?;
    membership.beat.store(1, Ordering::SeqCst);
    membership.me.store(me, Ordering::SeqCst);
    membership.lock().mine.push(me);
    info!(node = me, "joined");
    Ok(())
}

/// Joins a store that is as it was when it was opened. A resize says so before it looks who is there:
/// so either it sees this node, or this node sees it.
async fn join_to_serve(core: &Core) -> Result<()> {
    join(core).await?;
    let meta = Meta::read(&core.redis).await.and_then(|meta| meta.serves(core.options.partitions));
    if meta.is_err() {
        // If this does not happen either, the others will notice.
        let _ = leave(core).await;
    }
    meta
}

/// Leaves the others.
pub(super) async fn leave(core: &Core) -> Result<()> {
    core.redis.nodes("leave", vec![number(core.me()), number(core.membership.token())]).await?;
    Ok(())
}

pub(super) async fn beat(core: &Core) -> Result<Vec<Member>> {
    let membership = &core.membership;
    let beat = membership.beat.fetch_add(1, Ordering::SeqCst) + 1;
    let mut args = vec![number(membership.me()), number(membership.token()), number(beat), arg(membership.info())];
    args.push(number(membership.lock().met));
    let answer = list(core.redis.nodes("beat", args).await?);
    let found = answer.get(1..).unwrap_or_default().chunks_exact(2).filter_map(member);
    let (members, alive) = found.map(|(member, token)| (member.clone(), (member.id, token))).unzip();
    let mut inner = membership.lock();
    inner.highest = answer.first().map_or(0, int) as u64;
    inner.alive = alive;
    Ok(members)
}

/// Who is there, without a sign of life.
pub(super) async fn members(core: &Core) -> Result<Vec<Member>> {
    let found = list(core.redis.nodes("members", Vec::new()).await?);
    Ok(found.chunks_exact(2).filter_map(member).map(|(member, _)| member).collect())
}

/// A number, and `<beat> <token> <info>`: the member, and its token.
fn member(pair: &[Value]) -> Option<(Member, String)> {
    let id = pair[0].as_u64()?;
    let text = pair[1].as_string()?;
    let (beat, rest) = text.split_once(' ')?;
    let (token, info) = rest.split_once(' ')?;
    // A newer build may say more of itself, an older one less.
    let member = Member { id, beat: beat.parse().ok()?, info: serde_json::from_str(info).unwrap_or_default() };
    Some((member, token.to_owned()))
}

/// Takes a partition, unless another living node has it: with an epoch from MongoDB, on a server that has
/// confirmed the partition.
pub(super) async fn acquire(core: &Arc<Core>, partition: u16) -> Result<Acquired> {
    for _ in 0..TRIES {
        let standing = core.standing(partition).await?;
        if standing.cold {
            core.warm(partition).await?;
            continue;
        }
        if standing.age == upgrade::Age::Carrying {
            upgrade::carry_messages(core, partition).await?;
        }
        if let Some(node) = held(core, &standing) {
            return Ok(Acquired::Held(node));
        }
        let reserved = core.reserve(partition, &standing).await?;
        if let Some(acquired) = acquire_under(core, partition, reserved).await? {
            if standing.age == upgrade::Age::Carrying {
                core.runtime.spawn(upgrade::carry_results(core.clone(), partition));
            }
            return Ok(acquired);
        }
    }
    Err(Error::new(format!("partition {partition} changes hands too often to be taken")).code("redis"))
}

/// The living node that has a partition, if it is another one. The function looks again: this spares MongoDB a
/// write for each partition that cannot be had.
fn held(core: &Core, standing: &Standing) -> Option<u64> {
    let owner = standing.owner;
    core.membership.meets(owner);
    let inner = core.membership.lock();
    let mine = owner == core.me() && standing.token == core.membership.token().to_string();
    let lives = owner > inner.highest || inner.alive.contains(&(owner, standing.token.clone()));
    (owner != 0 && !mine && lives).then_some(owner)
}

async fn acquire_under(core: &Arc<Core>, partition: u16, reserved: Reserved) -> Result<Option<Acquired>> {
    let args = {
        let inner = core.membership.lock();
        let (me, token) = (core.me(), core.membership.token());
        let mut args = [me, token, inner.highest, reserved.epoch, reserved.limit].map(number).to_vec();
        args.extend(inner.alive.iter().flat_map(|(id, token)| [number(id), arg(token.clone())]));
        args
    };
    let answer: Vec<i64> = list(core.known(partition, "acquire", args).await?).iter().map(int).collect();
    let at = |index: usize| answer.get(index).copied().unwrap_or(0);
    match at(0) {
        0 => {
            core.membership.meets(at(1) as u64);
            return Ok(Some(Acquired::Held(at(1) as u64)));
        }
        // Another one has taken it meanwhile, with a later epoch.
        -1 => return Ok(None),
        _ => {}
    }
    let (epoch, last, era) = (at(0) as u64, at(2) as u64, at(3) as u64);
    let attempts: HashMap<u64, u32> =
        answer.get(4..).unwrap_or_default().chunks_exact(2).map(|pair| (pair[0] as u64, pair[1] as u32)).collect();
    let place = &core.places[usize::from(partition)];
    // The last number may be one that was leapt over, so of this era nothing is known but how far it has come.
    append::note(core, partition, Known { era, first: last + 1, last });
    place.enter(epoch, era, attempts);
    core.runtime.spawn(outbox::deliver(core.clone(), partition, epoch));
    let clean = at(1) == 1;
    let mine = !clean && core.membership.lock().mine.contains(&at(1).unsigned_abs());
    Ok(Some(Acquired::Taken(Lease { partition, epoch, clean, mine, last })))
}

impl Leases for Cluster {
    fn acquire(&self, partition: u16) -> Fut<'_, Result<Acquired>> {
        let core = self.core.clone();
        Box::pin(async move { self.run(async move { acquire(&core, partition).await }).await? })
    }

    fn release(&self, lease: Lease) -> Fut<'_, Result<()>> {
        Box::pin(async move {
            self.core.places[usize::from(lease.partition)].leave_epoch(lease.epoch);
            self.core.known(lease.partition, "release", vec![number(lease.epoch)]).await?;
            Ok(())
        })
    }

    fn owners(&self) -> Fut<'_, Result<Vec<Owner>>> {
        Box::pin(async move {
            let owners = (0..self.core.options.partitions).map(async |partition| {
                let standing = self.core.standing(partition).await?;
                Ok(Owner { node: standing.owner, epoch: standing.epoch })
            });
            join_all(owners).await.into_iter().collect()
        })
    }
}

impl Nodes for Cluster {
    fn me(&self) -> u64 {
        self.core.me()
    }

    fn lease_time(&self) -> Option<Duration> {
        Some(self.core.options.lease)
    }

    fn join(&self) -> Fut<'_, Result<()>> {
        let core = self.core.clone();
        Box::pin(async move { self.run(async move { join_to_serve(&core).await }).await? })
    }

    fn beat(&self) -> Fut<'_, Result<Vec<Member>>> {
        let core = self.core.clone();
        Box::pin(async move { self.run(async move { beat(&core).await }).await? })
    }

    fn members(&self) -> Fut<'_, Result<Vec<Member>>> {
        Box::pin(members(&self.core))
    }

    fn give_up(&self, member: Member) -> Fut<'_, Result<bool>> {
        Box::pin(async move {
            let gone = self.core.redis.nodes("give_up", vec![number(member.id), number(member.beat)]).await?;
            let gone = int(&gone) == 1;
            if gone {
                warn!(node = member.id, listen = member.info.listen, "a node is silent, its partitions are free");
            }
            Ok(gone)
        })
    }

    fn leave(&self) -> Fut<'_, Result<()>> {
        Box::pin(leave(&self.core))
    }

    fn post(&self, node: u64, letter: Vec<u8>) -> Fut<'_, Result<bool>> {
        let mut bytes = vec![b'p'];
        bytes.extend(letter);
        Box::pin(async move { Ok(self.core.redis.publish(node, bytes).await?) })
    }

    fn letters(&self) -> Option<mpsc::UnboundedReceiver<Vec<u8>>> {
        self.core.letters.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn declares(&self, schedules: &str) {
        self.core.membership.lock().info.schedules = Some(schedules.to_owned());
    }

    fn describes(&self, build: &str, declines: Vec<u16>) {
        let info = &mut self.core.membership.lock().info;
        (info.build, info.declines) = (Some(build.to_owned()), declines);
    }

    fn announce(&self, listen: &str) -> Fut<'_, Result<()>> {
        self.core.membership.lock().info.listen = Some(listen.to_owned());
        let core = self.core.clone();
        Box::pin(async move {
            // The next beat says it again.
            let _ = self.run(async move { beat(&core).await }).await?;
            Ok(())
        })
    }
}

/// Sorts what is published to this node: what is for the runtime goes on, what others appended wakes
/// the reader.
pub(super) async fn listen(core: Arc<Core>, post: mpsc::UnboundedSender<Vec<u8>>) {
    let mut letters = core.redis.letters();
    while let Some(letter) = letters.recv().await {
        if core.closed() {
            return;
        }
        match letter.as_deref() {
            Some([b'p', letter @ ..]) => {
                // Nobody reads them when only looking.
                let _ = post.send(letter.to_vec());
            }
            Some([b'm', rest @ ..]) => appended(&core, rest),
            Some([b'l', name @ ..]) => core.limits.told(name),
            Some([b'd', rest @ ..]) => {
                if let Some(place) = text(rest).and_then(|p| core.places.get(p.parse::<usize>().ok()?)) {
                    place.notify(false, true);
                }
            }
            _ => core.look_again(),
        }
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// `<partition>:<number>`
fn appended(core: &Core, letter: &[u8]) {
    let parsed = text(letter).and_then(|letter| letter.split_once(':'));
    let Some((partition, last)) = parsed else { return };
    let (Ok(partition), Ok(last)) = (partition.parse::<usize>(), last.parse()) else { return };
    if let Some(place) = core.places.get(partition) {
        place.tail.beyond(last);
        place.notify(true, false);
    }
}

impl Core {
    /// Every owner here looks again: something may have been missed.
    fn look_again(&self) {
        self.places.iter().filter(|place| place.epoch() > 0).for_each(|place| place.look_again());
    }
}

/// Looks now and then, for what no letter told of.
pub(super) async fn look_now_and_then(core: Arc<Core>) {
    while !core.closed() {
        tokio::time::sleep(LOOK).await;
        core.look_again();
    }
}
