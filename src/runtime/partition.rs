//! A partition on its owner: an actix actor that answers questions from other threads, around the
//! room in which its messages are read, handled and committed.
//!
//! Invariant: a partition that was closed leaves nothing running: its readers and its committer are
//! stopped, its activations have left, and no commit of its lease can follow.

use std::{rc::Rc, sync::Arc, time::Duration};

use tracing::{info, warn};

use actix::ActorContext;

use super::{
    distribute::{failure, recipient},
    due::due,
    leaving, pausing,
    reader::{read, relieve, wake_parked},
    room::Room,
    shared::Shared,
    supervisor::Beat,
    tenure::Tenure,
};
use crate::{
    backend::{Acquired, Lookup, REFUSED},
    envelope::Position,
    error::Result,
};

/// The partition's actor.
pub(crate) struct Partition {
    room: Rc<Room>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What a partition is opened with.
pub(crate) struct Opening {
    pub(crate) shared: Arc<Shared>,
    pub(crate) partition: u16,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) beat: Arc<Beat>,
    /// Whether the last owner's thread, of this process, was blocked; and the message that blocked it, if that is
    /// known.
    pub(crate) blocked: bool,
    pub(crate) blamed: Option<Position>,
}

/// What became of the wish to open a partition.
pub(crate) enum Opened {
    /// It is open.
    Taken(actix::Addr<Partition>),
    /// This node has it.
    Held(u64),
}

/// Takes the lease and starts reading, unless a living node has it.
pub(crate) async fn open(Opening { shared, partition, tenure, beat, blocked, blamed }: Opening) -> Result<Opened> {
    let lease = match shared.backend.acquire(partition).await? {
        Acquired::Taken(lease) => lease,
        Acquired::Held(node) => return Ok(Opened::Held(node)),
    };
    if blocked {
        shared.begun.forget(partition);
    }
    // What this process ran in a tenure that it lost has ended no process.
    let suspect = blocked || !(lease.clean || lease.mine);
    if suspect {
        info!(partition, epoch = lease.epoch, "the last owner did not let go in order: what it ran is suspect");
    }
    let suspects = Position::new(partition, if suspect { lease.last } else { 0 });
    let room = Room::new(shared, lease, suspects, beat, tenure);
    let journaled = room.shared.backend.journaled(partition).await?;
    room.journaled.borrow_mut().extend(journaled);
    if let Some(position) = blamed {
        quarantine(&room, position).await?;
    }
    let tasks = vec![
        actix::spawn({
            let room = room.clone();
            async move { room.committer.run().await }
        }),
        actix::spawn(read(room.clone())),
        actix::spawn(due(room.clone())),
        actix::spawn(relieve(room.clone())),
        actix::spawn(pausing::follow(room.clone())),
        actix::spawn(leaving::follow(room.clone())),
        actix::spawn({
            let room = room.clone();
            async move { wake_parked(&room, |address| !room.is_paused(address)).await }
        }),
        actix::spawn(publish(room.clone())),
        actix::spawn(passivate(room.clone())),
    ];
    Ok(Opened::Taken(actix::Actor::start(Partition { room, tasks })))
}

impl Partition {
    pub(crate) fn room(&self) -> &Rc<Room> {
        &self.room
    }
}

impl actix::Actor for Partition {
    type Context = actix::Context<Self>;
}

/// Which attempt of a message is running, if any.
#[derive(actix::Message)]
#[rtype(result = "Option<u32>")]
pub(crate) struct Running(pub(crate) Position);

impl actix::Handler<Running> for Partition {
    type Result = Option<u32>;

    fn handle(&mut self, Running(position): Running, _: &mut Self::Context) -> Option<u32> {
        self.room.running.borrow().get(&position).copied()
    }
}

/// How a partition is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parting {
    /// In order: the lease is let go, if what runs ends in time; else the next owner finds it suspect.
    Release,
    /// In order in any case: what has not ended in time is dropped, and repeated by the next owner.
    HandOver,
    /// Without a word to the store.
    Abandon,
}

/// Begin nothing new, wait until nothing runs, and stop; whether all ended in time and the lease was
/// let go where that was asked for.
#[derive(actix::Message)]
#[rtype(result = "bool")]
pub(crate) struct Close(pub(crate) Parting, pub(crate) Duration);

impl actix::Handler<Close> for Partition {
    type Result = actix::ResponseActFuture<Self, bool>;

    fn handle(&mut self, Close(parting, deadline): Close, _: &mut Self::Context) -> Self::Result {
        let room = self.room.clone();
        room.stop();
        let quiet = async move {
            let quiet = async {
                while room.busy() {
                    room.quiet.notified().await;
                }
            };
            room.shared.clock.limit(deadline, quiet).await.is_some()
        };
        let closed = actix::fut::wrap_future::<_, Self>(quiet);
        let closed = actix::ActorFutureExt::then(closed, move |quiet, partition: &mut Self, _| {
            partition.vacate();
            let room = partition.room.clone();
            actix::fut::wrap_future::<_, Self>(async move {
                match parting {
                    Parting::Release if quiet => release(&room).await,
                    Parting::Release => false,
                    Parting::HandOver => release(&room).await,
                    Parting::Abandon => quiet,
                }
            })
        });
        Box::pin(actix::ActorFutureExt::map(closed, |closed, _, ctx: &mut Self::Context| {
            ctx.stop();
            closed
        }))
    }
}

impl Partition {
    /// Stops everything that works here.
    fn vacate(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.room.vacate();
    }
}

async fn release(room: &Room) -> bool {
    room.shared.begun.forget(room.lease.partition);
    let released = room.shared.backend.release(room.lease).await;
    if let Err(error) = &released {
        warn!(partition = room.lease.partition, %error, "the lease was not let go");
    }
    released.is_ok()
}

/// Ends the message that blocked the last owner's thread in the dead letters.
async fn quarantine(room: &Rc<Room>, position: Position) -> Result<()> {
    let Lookup::Waiting(stored) = room.shared.backend.lookup(position).await? else { return Ok(()) };
    let Some(address) = recipient(room, &stored).await else { return Ok(()) };
    let message = format!(
        "the handler blocked its thread for {:?} without awaiting: move blocking work to the blocking pool",
        room.shared.settings.stall
    );
    let buried = room.bury(&stored, address, failure(room, "blocked", message));
    // The committer's task is not running yet.
    tokio::select! {
        () = buried => {}
        () = room.committer.run() => {}
    }
    Ok(())
}

/// Tells the store which tenants have more than their share of the mailbox, for as long as it is so.
async fn publish(room: Rc<Room>) {
    let mut said = false;
    while !room.stopping() {
        match said {
            true => drop(room.shared.clock.limit(REFUSED / 3, room.shares.notified()).await),
            false => room.shares.notified().await,
        }
        let over = room.lanes.borrow().usage.over();
        let any = !over.tenants.is_empty();
        room.shared.metrics.refused(over.tenants.len() as i64 - room.refused.replace(over.tenants.len()) as i64);
        match room.shared.backend.refuse(room.lease, over).await {
            Ok(()) => said = any,
            Err(error) => {
                warn!(partition = room.lease.partition, %error, "which tenants have more than their share could not be said");
                said = true;
            }
        }
    }
}

/// Lets activations leave that were not used for the idle time (twice its half, see
/// [`Room::passivate_idle`]).
async fn passivate(room: Rc<Room>) {
    while !room.stopping() {
        room.shared.clock.rest(room.shared.settings.idle / 2).await;
        room.passivate_idle();
    }
}
