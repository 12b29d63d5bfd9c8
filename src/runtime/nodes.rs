//! Being one of several nodes: giving signs of life, noticing who does not, taking the partitions that
//! are this node's by assignment and handing over those that are not.
//!
//! Invariant: nothing here is needed for correctness, which leases give; but a node that cannot show
//! that it lives stops by its own clock before another may take its place ([`plan`](super::plan)), so
//! that no work is done twice.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{
    arbiters::Arbiters,
    assign::Assigned,
    builds,
    letter::Letter,
    others::Others,
    partition::Parting,
    plan::{Plan, Sight, Situation, Times, plan},
    shared::Shared,
};
use crate::{
    backend::{Lease, Member},
    error::{Error, Result},
};

/// The least time between two beats, however much there is to look at.
const PAUSE: Duration = Duration::from_millis(20);
/// How often what the store says is ours is compared with what is open here.
const COMPARE: Duration = Duration::from_secs(5);

/// A node among nodes.
pub(crate) struct Nodes {
    shared: Arc<Shared>,
    arbiters: Arc<Arbiters>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
    /// The store may say that something is ours which is not open here.
    doubt: AtomicBool,
    over: AtomicBool,
    times: Times,
    build: OnceLock<String>,
}

/// What the loop remembers from beat to beat.
#[derive(Default)]
struct Memory {
    sight: Sight,
    /// When the last successful beat was sent; `None` when there is nothing to abandon.
    proof: Option<Instant>,
    compared: Option<Instant>,
    failing: bool,
}

impl Nodes {
    /// Joins, takes what is assigned and free, and goes on beating; `None` when there are no others.
    pub(crate) async fn start(shared: &Arc<Shared>, arbiters: &Arc<Arbiters>) -> Result<Option<Arc<Self>>> {
        let Some(lease) = shared.backend.lease_time() else { return Ok(None) };
        let nodes = Arc::new(Self {
            shared: shared.clone(),
            arbiters: arbiters.clone(),
            task: std::sync::Mutex::default(),
            doubt: AtomicBool::new(false),
            over: AtomicBool::new(false),
            times: Times::of(lease),
            build: OnceLock::new(),
        });
        let mut memory = Memory::default();
        let kinds = shared.kinds.keys().copied().collect();
        let build = builds::fingerprint(shared.settings.build.to_string(), kinds).await;
        info!(build, "this build is told from others by its fingerprint");
        nodes.build.set(build).ok();
        nodes.describe()?;
        shared.backend.join().await.map_err(|error| error.context("joining the other nodes"))?;
        let plan = nodes.round(&mut memory).await.map_err(|error| error.context("giving the first sign of life"))?;
        info!(node = shared.backend.me(), members = nodes.others()?.members().len(), "joined");
        nodes.tell_all();
        let opened = join_all(plan.open.iter().map(|partition| arbiters.open(*partition))).await;
        for (partition, opened) in plan.open.iter().zip(opened) {
            match opened {
                // Or held by another node for now: it hands over when it has seen this one.
                Ok(_) => {}
                Err(error) if error.is_terminal() => {
                    arbiters.abandon(Duration::ZERO);
                    // The error that stopped the start is the one to tell.
                    let _ = shared.backend.leave().await;
                    return Err(error.context(format!("opening partition {partition}")));
                }
                Err(error) => warn!(partition, %error, "a partition could not be opened, trying again"),
            }
        }
        let task = actix::spawn(nodes.clone().run(memory));
        *nodes.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(task);
        Ok(Some(nodes))
    }

    fn others(&self) -> Result<&Others> {
        self.shared.others.as_ref().ok_or_else(|| Error::new("there are no other nodes"))
    }

    /// Has the next beat say what this node is, and what it leaves to other builds.
    fn describe(&self) -> Result<()> {
        let build = self.build.get().map_or("", String::as_str);
        self.shared.backend.describes(build, self.others()?.builds.declined());
        Ok(())
    }

    /// Lets the others look around: somebody has come.
    fn tell_all(&self) {
        let (me, Ok(others)) = (self.shared.backend.me(), self.others()) else { return };
        for member in others.members().iter().filter(|member| member.id != me) {
            others.write(member.id, &Letter::Look);
        }
    }

    async fn run(self: Arc<Self>, mut memory: Memory) {
        while !self.over.load(Ordering::Acquire) {
            let begun = Instant::now();
            match self.round(&mut memory).await {
                Ok(plan) => {
                    if std::mem::take(&mut memory.failing) {
                        info!("the store answers again");
                    }
                    match plan.abandon {
                        true if self.is_member() => self.abandon(&mut memory, "it was not heard of in time"),
                        true => self.rejoin(&mut memory).await,
                        false => self.compare(&mut memory),
                    }
                    self.carry_out(plan);
                }
                Err(error) if error.has_code("node_lost") => self.rejoin(&mut memory).await,
                Err(error) if !std::mem::replace(&mut memory.failing, true) => {
                    warn!(%error, "no sign of life could be given, trying again");
                }
                Err(_) => {}
            }
            self.wait(&memory, begun).await;
        }
    }

    fn is_member(&self) -> bool {
        let me = self.shared.backend.me();
        self.others().is_ok_and(|others| others.members().iter().any(|member| member.id == me))
    }

    /// One beat, and what follows from it.
    async fn round(&self, memory: &mut Memory) -> Result<Plan> {
        self.describe()?;
        let sent = Instant::now();
        let members = self.beat(memory).await?;
        let now = Instant::now();
        memory.proof = Some(sent);
        memory.sight.see(&members, now);
        let others = self.others()?;
        others.meet(members, sent);
        let lost = self.arbiters.dismiss_lost();
        if lost > 0 {
            warn!(partitions = lost, "another owner has taken over");
        }
        let situation = Situation {
            me: self.shared.backend.me(),
            members: &others.members(),
            staying: &others.staying(),
            sight: &memory.sight,
            standing: &self.arbiters.standing(),
            proof: sent,
            draining: self.shared.draining(),
        };
        Ok(plan(&situation, self.times, now))
    }

    /// Gives a sign of life; while the store does not answer, everything is abandoned in time.
    async fn beat(&self, memory: &mut Memory) -> Result<Vec<Member>> {
        let mut beat = self.shared.backend.beat();
        let Some(proof) = memory.proof else { return beat.await };
        tokio::select! {
            biased;
            answer = &mut beat => return answer,
            () = tokio::time::sleep_until(self.times.lapses(proof).into()) => {}
        }
        self.abandon(memory, "the store does not answer");
        beat.await
    }

    fn abandon(&self, memory: &mut Memory, why: &str) {
        memory.proof = None;
        self.doubt.store(true, Ordering::Release);
        let partitions = self.arbiters.abandon(self.times.lease);
        if partitions > 0 {
            error!(partitions, why, "this node may be thought dead: it stops working");
        }
    }

    /// The others gave this node up: it comes back as a new one.
    async fn rejoin(&self, memory: &mut Memory) {
        self.abandon(memory, "the other nodes gave it up");
        if self.shared.draining() {
            return;
        }
        match self.shared.backend.join().await {
            Ok(()) => {
                *memory = Memory::default();
                info!(node = self.shared.backend.me(), "joined again");
                self.tell_all();
                self.shared.look();
            }
            Err(error) => warn!(%error, "joining again failed, trying again"),
        }
    }

    /// Begins what was decided. Nothing here holds up the next beat.
    fn carry_out(self: &Arc<Self>, plan: Plan) {
        for member in plan.give_up {
            let nodes = self.clone();
            actix::spawn(async move {
                let node = member.id;
                match nodes.shared.backend.give_up(member).await {
                    Ok(true) => {
                        warn!(node, "a node was given up: it gave no sign of life for the lease time");
                        nodes.shared.look();
                    }
                    Ok(false) => {}
                    Err(error) => warn!(node, %error, "a silent node could not be given up, trying again"),
                }
            });
        }
        for partition in plan.open {
            let nodes = self.clone();
            actix::spawn(async move {
                if let Err(error) = nodes.arbiters.open(partition).await {
                    // The store may have given it to us without our hearing of it.
                    nodes.doubt.store(true, Ordering::Release);
                    warn!(partition, %error, "a partition could not be opened, trying again");
                }
            });
        }
        for (partition, to) in plan.hand_over {
            let nodes = self.clone();
            actix::spawn(async move {
                if nodes.arbiters.close(partition, Parting::HandOver, nodes.times.lease).await {
                    nodes.shared.write(to, &Letter::Look);
                } else {
                    nodes.doubt.store(true, Ordering::Release);
                }
                // The next one may go.
                nodes.shared.look();
            });
        }
    }

    /// Lets go of what the store says is ours though it is neither open nor wanted here: a release or
    /// the answer to an acquire was lost. Now and then, and when there is reason to.
    fn compare(self: &Arc<Self>, memory: &mut Memory) {
        let doubt = self.doubt.swap(false, Ordering::AcqRel);
        if self.shared.draining() || !(doubt || memory.compared.is_none_or(|at| at.elapsed() >= COMPARE)) {
            return;
        }
        memory.compared = Some(Instant::now());
        let nodes = self.clone();
        actix::spawn(async move {
            if let Err(error) = nodes.let_go_of_leftovers().await {
                nodes.doubt.store(true, Ordering::Release);
                warn!(%error, "owners could not be compared, trying again");
            }
        });
    }

    async fn let_go_of_leftovers(&self) -> Result<()> {
        let (backend, others) = (&self.shared.backend, self.others()?);
        let (me, owners) = (backend.me(), backend.owners().await?);
        let (members, staying) = (others.members(), others.staying());
        let assigned = Assigned::among(&members, &staying);
        for (partition, owner) in (0u16..).zip(owners) {
            let wanted = assigned.owner(partition);
            if owner.node != me || wanted == Some(me) {
                continue;
            }
            if !self.arbiters.is_free(partition) {
                // What is open is handed over; what ends there is looked at again when it has.
                continue;
            }
            // Were it taken anew meanwhile, this would be an epoch too old to mean anything.
            backend.release(Lease { partition, epoch: owner.epoch, clean: false, mine: false, last: 0 }).await?;
            if let Some(node) = wanted {
                self.shared.write(node, &Letter::Look);
            }
        }
        Ok(())
    }

    /// Waits for the next beat: by the clock, when somebody falls silent, or when there is a reason.
    async fn wait(&self, memory: &Memory, begun: Instant) {
        let Ok(others) = self.others() else { return };
        let (me, now) = (self.shared.backend.me(), Instant::now());
        let least = begun + PAUSE;
        let silence = memory.sight.next(me, self.times.lease, now);
        let next = silence.map_or(begun + self.times.beat, |at| at.min(begun + self.times.beat)).max(least);
        tokio::time::sleep_until(least.into()).await;
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = others.look.notified() => {}
        }
    }

    /// Lets go of everything and leaves, telling the others at each step; how many partitions had not
    /// finished in time.
    pub(crate) async fn drain(&self, deadline: Duration) -> usize {
        let backend = &self.shared.backend;
        let Some(others) = &self.shared.others else { return self.arbiters.drain(deadline, |_| {}).await };
        let me = backend.me();
        let rest: Vec<u64> = others.staying().into_iter().filter(|node| *node != me).collect();
        let tell = |letter: Letter| rest.iter().for_each(|node| others.write(*node, &letter));
        tell(Letter::Leaving { node: me });
        let members = others.members();
        let assigned = Assigned::among(&members, &rest);
        let released = |partition| {
            if let Some(node) = assigned.owner(partition) {
                others.write(node, &Letter::Look);
            }
        };
        // Beating goes on meanwhile, or the others would take what still runs.
        let unfinished = self.arbiters.drain(deadline, released).await;
        self.over.store(true, Ordering::Release);
        others.look.notify_one();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let leave = async {
            if let Some(task) = task {
                // It only ever ends by returning.
                let _ = task.await;
            }
            backend.leave().await
        };
        match tokio::time::timeout(self.times.lease, leave).await {
            Ok(Ok(())) => tell(Letter::Look),
            Ok(Err(error)) => warn!(%error, "the others will notice by themselves that this node has left"),
            Err(_) => warn!("the store does not answer: the others will notice by themselves that this node has left"),
        }
        // What is not sent by then is not worth waiting for.
        let _ = tokio::time::timeout(Duration::from_secs(1), others.flush()).await;
        unfinished
    }
}
