//! Appending to mailboxes, many at once: for each writing connection a task takes whatever waits,
//! calls one function per partition, all on their way together, and while it waits for the answers
//! the next ones gather. What outboxes send goes the same way, so that the tail sees a partition's
//! numbers in order.

use std::{collections::HashMap, sync::Arc};

use fred::types::Value;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use super::{
    Core,
    calls::{Calls, Queue},
    encode,
    pack::Packer,
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
    reply: oneshot::Sender<Result<Appended, NotAppended>>,
}

/// Some of an outbox, in order of sequence.
pub(super) struct Delivery {
    pub(super) from: u16,
    pub(super) to: u16,
    /// The sequence of the first parcel.
    pub(super) first: u64,
    /// Whether a gap before it is accepted: what was in it is lost.
    pub(super) force: bool,
    pub(super) parcels: Vec<encode::Parcel>,
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
    let (reply, answer) = oneshot::channel();
    // What comes for a command that has begun is never too much.
    let tenant = core.tenants.get().filter(|_| envelope.note.is_none()).and_then(|of| of(&envelope.to));
    core.send(partition, Item::Append(One { partition, head, bytes, deferred, envelope, tenant, reply }));
    Ok(answer)
}

/// Serves one connection for ever.
pub(super) async fn serve(core: Arc<Core>, mut queue: mpsc::UnboundedReceiver<Item>) {
    let mut calls = Calls::default();
    loop {
        // All that has come is looked at, so that who comes last need not wait for who came before.
        let mut next = match calls.is_empty() {
            true => match queue.recv().await {
                Some(item) => Some(item),
                None => return,
            },
            false => queue.try_recv().ok(),
        };
        while let Some(item) = next {
            item.queue().0.inspect(|tenant| core.company.saw(*tenant));
            calls.push(item.queue(), item.weight(), item);
            next = queue.try_recv().ok();
        }
        let (most, call) = if core.company.is_several() { (SHARED, CALL) } else { (BATCH * 4, BATCH) };
        let (mut appends, mut receives, mut weight) = (HashMap::<u16, Vec<One>>::new(), Vec::new(), 0);
        while weight < most
            && let Some((weighs, items)) = calls.next(call)
        {
            weight += weighs;
            for item in items {
                match item {
                    Item::Append(one) => appends.entry(one.partition).or_default().push(one),
                    Item::Receive(delivery) => receives.push(delivery),
                }
            }
        }
        let appending = join_all(appends.into_values().map(|ones| append_all(&core, ones)));
        let receiving = join_all(receives.into_iter().map(|delivery| receive(&core, delivery)));
        tokio::join!(appending, receiving);
    }
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
    let mut args: Vec<Value> = Vec::with_capacity(4 + ones.len() * 2);
    args.push(number(core.me()));
    args.push(number(core.options.mailbox_bytes));
    args.push(number(core.options.partitions));
    args.push(arg(tenants(&ones)));
    let mut kept = Vec::with_capacity(ones.len());
    for one in ones {
        let size = one.bytes.len();
        args.push(arg(one.head));
        args.push(arg(one.bytes));
        kept.push((one.envelope, one.deferred, size, one.reply));
    }
    let answers = match core.written(partition, "append", args).await {
        Ok(answers) => list(answers),
        Err(fault) => {
            // They may be there all the same: whoever reads looks.
            core.places[usize::from(partition)].look_again();
            for (.., reply) in kept {
                let _ = reply.send(Err(NotAppended::Unavailable(fault.to_string())));
            }
            return;
        }
    };
    let place = &core.places[usize::from(partition)];
    let (mut mail, mut timer) = (false, false);
    for ((envelope, deferred, size, reply), answer) in kept.into_iter().zip(answers) {
        let answer = appended(core, partition, answer);
        if let Ok(Appended::New(position)) = &answer {
            if deferred {
                place.tail.pass(position.number());
                timer = true;
            } else {
                place.tail.push(position.number(), &envelope, size);
                mail = true;
            }
        }
        // Whoever waited is gone; what is accepted stays.
        let _ = reply.send(answer);
    }
    place.notify(mail, timer);
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
    let Delivery { from, to, first, force, parcels, reply } = delivery;
    let mut args = Vec::with_capacity(4 + parcels.len() * 2);
    args.extend([number(core.me()), number(from), number(first), number(u8::from(force))]);
    for parcel in &parcels {
        args.push(arg(parcel.head.clone()));
        args.push(arg(parcel.bytes.clone()));
    }
    let place = &core.places[usize::from(to)];
    let answer = match core.written(to, "receive", args).await {
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
    let (began, known) = (answer.first().map_or(0, int) as u64, answer.get(1).map_or(0, int) as usize);
    let (mut mail, mut timer) = (false, false);
    for (number, parcel) in (began..).zip(parcels.iter().skip(known)) {
        if parcel.head.is_empty() {
            place.tail.push(number, &parcel.envelope, parcel.bytes.len());
            mail = true;
        } else {
            place.tail.pass(number);
            timer = true;
        }
    }
    place.notify(mail, timer);
    // The outbox's owner has stopped: its next one sends again, and it is known then.
    let _ = reply.send(Ok(()));
}
