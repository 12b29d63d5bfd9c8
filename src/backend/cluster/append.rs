//! Appending to mailboxes, many at once: for each writing connection a task sends a call for each partition of
//! which something waits, and while one is on its way that partition's next messages gather. What outboxes send
//! goes the same way, so that the tail sees a partition's numbers in order.
//!
//! *A server that stands still.* The messages that wait for it have a bound in bytes for each partition, beyond which
//! an append is refused at once. A message whose client has gone is never sent: that client was told that it was not
//! accepted.
//!
//! *A lost answer.* An append names its node and a serial, which the partition remembers with what it answered:
//! so it is sent again, and answered again. A parcel names its sequence, of which each is taken once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fred::types::Value;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{
    Core,
    calls::{Call, Calls, Queue},
    encode,
    pack::Packer,
    parcels::Leaving,
    place::{Known, Place},
    redis::{Fault, arg, int, list, number},
};
use crate::{
    backend::{Append, Appended, NotAppended, Tenant},
    envelope::{Envelope, Position},
};

/// Most messages and bytes in one call.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// Most messages on their way at once on one connection while several tenants are there, who take turns; and of
/// these, of one tenant in one call.
const SHARED: usize = 16;
const CALL: usize = 8;
/// Bytes of one partition that wait for their call or its answer: more than a server leaves unanswered unless it
/// stands still.
const WAITING: usize = 16 << 20;
/// What a message takes in memory beside its bytes.
const BESIDE: usize = 512;

/// A call that is not answered for longer does not count among those: its server stands still.
const PATIENCE: Duration = Duration::from_millis(250);

/// Something to put into a mailbox.
pub(super) enum Item {
    /// From outside.
    Append(One),
    /// From another partition's outbox.
    Receive(Delivery),
}

impl Item {
    /// Whose it is, if it is known, and the partition it is for.
    fn queue(&self) -> Queue {
        match self {
            Self::Append(one) => (one.tenant, one.partition),
            Self::Receive(delivery) => (None, delivery.to),
        }
    }

    /// How many messages it is.
    fn weight(&self) -> usize {
        match self {
            Self::Append(_) => 1,
            Self::Receive(delivery) => delivery.parcels.len(),
        }
    }
}

/// A message from outside.
pub(super) struct One {
    partition: u16,
    head: Vec<u8>,
    bytes: Vec<u8>,
    deferred: bool,
    envelope: Arc<Envelope>,
    tenant: Option<Tenant>,
    room: Room,
    reply: oneshot::Sender<Result<Appended, NotAppended>>,
}

/// What a message takes of the room in which a partition's messages wait, until it is dropped.
struct Room {
    place: Arc<Place>,
    bytes: usize,
}

impl Room {
    /// Nothing when there is none left. One that finds nothing there has room, however large it is.
    fn take(place: &Arc<Place>, bytes: usize) -> Option<Self> {
        let before = place.waiting.fetch_add(bytes, Ordering::Relaxed);
        let room = Self { place: place.clone(), bytes };
        (before == 0 || before + bytes <= WAITING).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.place.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Some of an outbox, in order of sequence.
pub(super) struct Delivery {
    pub(super) from: u16,
    pub(super) to: u16,
    /// Whether a gap is accepted: what was in it is lost.
    pub(super) force: bool,
    /// The era of their sequences.
    pub(super) era: u64,
    pub(super) parcels: Vec<Leaving>,
    pub(super) reply: oneshot::Sender<Result<(), NotReceived>>,
}

/// Why a delivery did not happen.
#[derive(Debug)]
pub(super) enum NotReceived {
    /// Something before it has not arrived.
    Gap,
    /// The store did not answer, or refused.
    Fault(Fault),
}

/// Queues a message for its partition's connection.
pub(super) fn queue(core: &Core, append: Append) -> Result<oneshot::Receiver<Result<Appended, NotAppended>>, String> {
    let envelope = Arc::new(append.envelope);
    let bytes = serde_json::to_vec(&*envelope).map_err(|e| e.to_string())?;
    let partition = envelope.to.partition(core.options.partitions);
    let head = encode::head(&envelope, append.due, append.idempotency.as_ref(), append.fence.as_ref());
    let deferred = append.due.is_some_and(|due| due > envelope.accepted);
    let room = Room::take(&core.places[usize::from(partition)], bytes.len() + head.len() + BESIDE)
        .ok_or_else(|| format!("what waits for Redis to answer for partition {partition} is as much as may wait"))?;
    let (reply, answer) = oneshot::channel();
    // What comes for a command that has begun is never too much.
    let tenant = core.tenants.get().filter(|_| envelope.note.is_none()).and_then(|of| of(&envelope.to));
    core.send(partition, Item::Append(One { partition, head, bytes, deferred, envelope, tenant, room, reply }));
    Ok(answer)
}

/// Serves one connection for ever.
pub(super) async fn serve(core: Arc<Core>, mut queue: mpsc::UnboundedReceiver<Item>) {
    let (mut calls, mut flying) = (Calls::default(), FuturesUnordered::new());
    let mut weights: HashMap<u16, (usize, Instant)> = HashMap::new();
    loop {
        // All that has come is looked at, so that who comes last need not wait for who came before.
        while let Ok(item) = queue.try_recv() {
            take_in(&core, &mut calls, item);
        }
        let several = core.company.is_several();
        let (most, call) = if several { (SHARED, CALL) } else { (usize::MAX, BATCH) };
        let now = Instant::now();
        let mut weight: usize =
            weights.values().filter(|(_, sent)| now - *sent < PATIENCE).map(|(weight, _)| weight).sum();
        while weight < most
            && let Some(Call { partition, weight: weighs, items }) = calls.next(call)
        {
            weight = weight.saturating_add(weighs);
            weights.insert(partition, (weighs, now));
            flying.push(fly(&core, partition, items));
        }
        tokio::select! {
            biased;
            Some(partition) = flying.next(), if !flying.is_empty() => {
                weights.remove(&partition);
                calls.answered(partition);
            }
            item = queue.recv() => match item {
                Some(item) => take_in(&core, &mut calls, item),
                None => return,
            },
            () = tokio::time::sleep(PATIENCE), if weight >= most => {}
        }
    }
}

fn take_in(core: &Core, calls: &mut Calls<Item>, item: Item) {
    item.queue().0.inspect(|tenant| core.company.saw(*tenant));
    calls.push(item.queue(), item.weight(), item);
}

/// Sends what is for one partition.
async fn fly(core: &Core, partition: u16, items: Vec<Item>) -> u16 {
    let (mut appends, mut receives) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            // Its client has been told that it was not accepted, and nothing of it was sent.
            Item::Append(one) if one.reply.is_closed() => {}
            Item::Append(one) => appends.push(one),
            Item::Receive(delivery) => receives.push(delivery),
        }
    }
    let receiving = join_all(receives.into_iter().map(|delivery| receive(core, delivery)));
    tokio::join!(append_all(core, appends), receiving);
    partition
}

async fn append_all(core: &Core, mut ones: Vec<One>) {
    while !ones.is_empty() {
        let mut bytes = 0;
        let fits = ones.iter().take(BATCH).take_while(|one| {
            bytes += one.bytes.len();
            bytes <= BATCH_BYTES
        });
        let most = fits.count().max(1);
        let rest = ones.split_off(most);
        append(core, std::mem::replace(&mut ones, rest)).await;
    }
}

async fn append(core: &Core, ones: Vec<One>) {
    let Some(partition) = ones.first().map(|one| one.partition) else { return };
    let place = &core.places[usize::from(partition)];
    let (epoch, serial) = (place.epoch(), place.next_call());
    let mut args: Vec<Value> = Vec::with_capacity(8 + ones.len() * 2);
    args.extend([number(core.me()), number(core.membership.token()), number(serial), number(0)]);
    args.extend([number(core.options.mailbox_bytes), number(core.options.partitions), arg(tenants(&ones))]);
    // Most messages are nothing but their envelopes, and so cost least.
    let plain = ones.iter().all(|one| one.head.is_empty());
    args.push(if plain { number(ones.iter().map(|one| one.bytes.len()).sum::<usize>()) } else { number("") });
    let mut kept = Vec::with_capacity(ones.len());
    for one in ones {
        let size = one.bytes.len();
        args.push(arg(one.head));
        args.push(arg(one.bytes));
        kept.push((one.envelope, one.deferred, size, one.room, one.reply));
    }
    let repeated = AtomicBool::new(false);
    let again = |args: &mut [Value]| {
        repeated.store(true, Ordering::Relaxed);
        args[3] = number(1);
    };
    let answers = match core.known_by(partition, "append", args, again).await {
        Ok(answer) => answers(answer, kept.len()),
        Err(fault) => {
            // They may be there all the same: the reader looks.
            place.look_again();
            for (.., reply) in kept {
                let _ = reply.send(Err(NotAppended::Unavailable(fault.to_string())));
            }
            return;
        }
    };
    let (era, answers) = answers;
    let repeated = repeated.into_inner();
    let (mut mail, mut timer) = (false, false);
    for ((envelope, deferred, size, _room, reply), answer) in kept.into_iter().zip(answers) {
        let answer = appended(core, partition, answer);
        if let Ok(Appended::New(position)) = &answer {
            let number = position.number();
            note(core, partition, Known { era, first: number, last: number });
            if repeated {
                // They may be there since the first call, and some of them cancelled.
            } else if deferred {
                place.tail.pass(epoch, position.number());
                timer = true;
            } else {
                place.tail.push(epoch, position.number(), &envelope, size);
                mail = true;
            }
        }
        // The caller may be gone; what is accepted stays.
        let _ = reply.send(answer);
    }
    if repeated {
        return place.look_again();
    }
    place.notify(mail, timer);
}

/// The era, and what became of each message: all have consecutive numbers, or each an answer of its own.
fn answers(answer: Value, count: usize) -> (u64, Vec<Value>) {
    let mut parts = list(answer).into_iter();
    let mut next = || parts.next().unwrap_or(Value::Null);
    let (era, first, rest) = (int(&next()) as u64, int(&next()), next());
    match first {
        0 => (era, list(rest)),
        first => (era, (first..).take(count).map(Value::Integer).collect()),
    }
}

/// Remembers that messages were accepted. What the node knew of an era that is over, it reports to the partition.
pub(super) fn note(core: &Core, partition: u16, known: Known) {
    if let Some(before) = core.places[usize::from(partition)].accepted(known)
        && let Some(core) = core.this.upgrade()
    {
        core.runtime.clone().spawn(async move { core.report(partition, before).await });
    }
}

/// Whose each message is; nothing when none is anybody's.
fn tenants(ones: &[One]) -> Vec<u8> {
    if ones.iter().all(|one| one.tenant.is_none()) {
        return Vec::new();
    }
    let mut packer = Packer::default();
    packer.array(ones.len());
    for one in ones {
        packer.bytes(one.tenant.map(Tenant::digits).unwrap_or_default().as_bytes());
    }
    packer.done()
}

fn appended(core: &Core, partition: u16, answer: Value) -> Result<Appended, NotAppended> {
    if let Some(new) = answer.as_u64().filter(|_| !answer.is_array()) {
        return Ok(Appended::New(Position::new(partition, new)));
    }
    let mut parts = list(answer).into_iter();
    let what = parts.next().and_then(Value::into_string).unwrap_or_default();
    let count = parts.next().as_ref().map_or(0, int) as u64;
    match what.as_str() {
        "seen" => {
            let answer = parts.next().and_then(Value::into_string).unwrap_or_default();
            // It was accepted in another partition, when there were more or fewer.
            let at = parts.next().as_ref().and_then(Value::as_u64).map_or(partition, |at| at as u16);
            Ok(Appended::Seen(Position::new(at, count), answer))
        }
        "full" => {
            let share = parts.next().as_ref().map(|share| int(share) as u64);
            Err(NotAppended::Full { bytes: count, budget: share.unwrap_or(core.options.mailbox_bytes) })
        }
        "mismatch" => Err(NotAppended::Mismatch),
        "fenced" => Err(NotAppended::Fenced { newest: count }),
        other => Err(NotAppended::Unavailable(format!("Redis answered {other:?}"))),
    }
}

async fn receive(core: &Core, delivery: Delivery) {
    let Delivery { from, to, era, force, parcels, reply } = delivery;
    let place = &core.places[usize::from(to)];
    let epoch = place.epoch();
    let mut args = Vec::with_capacity(4 + parcels.len() * 3);
    args.extend([number(core.me()), number(from), number(era), number(u8::from(force))]);
    for parcel in &parcels {
        args.extend([number(parcel.seq), arg(parcel.head.clone()), arg(parcel.bytes.clone())]);
    }
    let repeated = AtomicBool::new(false);
    let again = |_: &mut [Value]| repeated.store(true, Ordering::Relaxed);
    let answer = match core.known_by(to, "receive", args, again).await {
        Ok(answer) => list(answer),
        Err(fault) => {
            place.look_again();
            let _ = reply.send(Err(NotReceived::Fault(fault)));
            return;
        }
    };
    if answer.first().and_then(Value::as_str).is_some_and(|what| what == "gap") {
        let _ = reply.send(Err(NotReceived::Gap));
        return;
    }
    let at = |index: usize| answer.get(index).map_or(0, int) as usize;
    let (began, known, taken, missing, of) = (at(0) as u64, at(1), at(2), at(3), at(4) as u64);
    if taken > 0 {
        note(core, to, Known { era: of, first: began, last: began + taken as u64 - 1 });
    }
    if missing > 0 {
        error!(from, to, missing, "messages between partitions are missing: Redis has lost them");
    }
    let (mut mail, mut timer) = (false, false);
    for (number, parcel) in (began..).zip(parcels.iter().skip(known).take(taken)) {
        match &parcel.envelope {
            _ if !parcel.head.is_empty() => {
                place.tail.pass(epoch, number);
                timer = true;
                continue;
            }
            Some(envelope) => place.tail.push(epoch, number, envelope, parcel.bytes.len()),
            // What cannot be read is read from Redis, as what it is.
            None => place.tail.forget(),
        }
        mail = true;
    }
    if repeated.into_inner() {
        // What the first call had put there is known to the second one, and not told of.
        place.look_again();
    }
    place.notify(mail, timer);
    let all = known + taken == parcels.len();
    // The outbox's owner may have stopped: its next one sends again, and it is known then.
    let _ = reply.send(if all { Ok(()) } else { Err(NotReceived::Gap) });
}
