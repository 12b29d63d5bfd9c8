//! The lanes of a partition: how much of its memory each may have, and how far each was read.
//!
//! A message whose lane has no room is passed over. It stays where it is, and the lane remembers the first
//! such place (its [`Line`](super::lane::Line)): so a backlog costs a lane one number, however long it is.
//! When there is room again the lane is read on from there, and only what is its own is taken.
//!
//! # How much
//!
//! A lane may have what is free, times its priority's weight, and no more than the window. So a lane of
//! [`Normal`](Priority::Normal) priority that is alone has exactly the window; a quarter of a window is kept
//! free for whoever comes; and the more lanes want room, the less each has, as none may hold more than a few
//! times what all leave over. A lane of which nothing is in memory has room for one message while anything is
//! free: none starves. What no handler handles (answers, signals) has a quarter of a window to itself, and
//! only waits for commits: it is never stuck behind a flood or a pause.
//!
//! # Order (G2), and nothing twice
//!
//! *Lines are lower bounds.* What a lane has before its line is in memory or gone. It holds when a message is
//! passed over (the line is set there, and what follows of its lane in the same walk is passed over too), when
//! a walk from the line or before it has come to its end (the line follows), and when keys change lanes: a
//! lane that takes keys in takes the lower of both lines. So a lane's messages come into memory in their
//! order, and with them those of a key, which are all in one lane: what is in memory of a key is before
//! whatever of it waits.
//!
//! *What is in memory is known one by one*, and a walk passes over it, and over what left memory while the
//! walk's page was read ([`left`](Lanes::left)): a page may be older than the commit that ended a message, or
//! that put it off until later.
//! So a line may be too low, and still nothing is taken twice. It is never too high, so nothing is forgotten.
//!
//! *Keys change lanes* when they are paused (everything paused is one lane, which has no room), when they are
//! resumed (one lane for all that are, until it is read to its end), and where there are more lanes than
//! [`MOST`]: those that come then share one until that one is read to its end.

mod changing;
mod handed;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    lane::{Belongs, Lane, LaneId, Mail, Order, Timed, weight},
    pausing::Pausing,
    usage::Usage,
};
use crate::{
    actor::Priority,
    address::Address,
    backend::{Home, Scope, Stored, Tenant},
    envelope::Position,
};

/// Lanes that are told apart in one partition.
pub(crate) const MOST: usize = 2048;

/// A message in memory.
struct Held {
    lane: LaneId,
    size: usize,
    /// Whether it counts against its tenant's share of the mailbox, until it is gone from there.
    tenant: Option<Tenant>,
    /// How often: a retry that falls due may be fetched and announced at once.
    times: u32,
}

/// A walk through messages in one of their two orders.
#[derive(Clone, Copy)]
pub(crate) struct Walk<At> {
    id: u64,
    /// Where it began; `None` at the very beginning.
    start: Option<At>,
    /// Whether messages of lanes that wait for nothing are new here.
    fresh: bool,
}

/// All lanes of a partition.
pub(crate) struct Lanes {
    window: (usize, usize),
    lanes: HashMap<LaneId, Lane>,
    held: HashMap<Position, Held>,
    /// Messages and bytes in memory, without notes.
    messages: usize,
    bytes: usize,
    /// How far the mailbox was read at all.
    pub(crate) front: Position,
    /// Whether that was to its end, once; and the first of what is being handed out.
    ended: bool,
    in_hand: Option<Position>,
    /// What has left memory since the page that is being read was asked for, in each of the two orders.
    left: [Option<HashSet<Position>>; 2],
    walks: [u64; 2],
    turns: u64,
    pausing: Arc<Pausing>,
    resumed: HashSet<Scope>,
    pub(crate) usage: Usage,
}

impl Lanes {
    /// Of a partition whose window is so many messages and bytes, read up to `front`.
    pub(crate) fn new(messages: usize, bytes: usize, front: Position) -> Self {
        Self {
            window: (messages, bytes),
            lanes: HashMap::new(),
            held: HashMap::new(),
            messages: 0,
            bytes: 0,
            front,
            ended: false,
            in_hand: None,
            left: [None, None],
            walks: [0; 2],
            turns: 0,
            pausing: Arc::default(),
            resumed: HashSet::new(),
            usage: Usage::default(),
        }
    }

    /// Which lane the messages of an actor are in now.
    pub(crate) fn of(&self, address: &Address, belongs: Belongs) -> Belongs {
        if self.pausing.covers(address) {
            return Belongs { lane: LaneId::PAUSED, ..belongs };
        }
        if !self.resumed.is_empty() && self.was_paused(address) {
            return Belongs { lane: LaneId::RESUMED, priority: Priority::Normal, ..belongs };
        }
        if belongs.lane.is_special() || self.lanes.contains_key(&belongs.lane) {
            return belongs;
        }
        // While some of it waits among the rest, all of it does.
        let rest = self.lanes.get(&LaneId::REST).is_some_and(|rest| rest.mail.unread.is_some());
        if rest || self.lanes.len() >= MOST {
            return Belongs { lane: LaneId::REST, priority: Priority::Normal, ..belongs };
        }
        belongs
    }

    fn was_paused(&self, address: &Address) -> bool {
        self.resumed.contains(&Scope::kind(address.kind())) || self.resumed.contains(&Scope::from(address.clone()))
    }

    fn lane(&mut self, belongs: Belongs) -> &mut Lane {
        let suspects = if belongs.lane.is_special() { usize::MAX } else { self.window.0 };
        self.lanes.entry(belongs.lane).or_insert_with(|| Lane::new(belongs.priority, suspects))
    }

    /// A message has come into memory; only here, so that what is there is known.
    pub(crate) fn hold(&mut self, stored: &Stored, belongs: Belongs) {
        let (lane, size) = (belongs.lane, stored.size);
        let tenant = belongs.tenant.filter(|_| stored.home == Home::Mailbox);
        let held = self.held.entry(stored.position).or_insert(Held { lane, size, tenant, times: 0 });
        held.times += 1;
        if held.times > 1 {
            return;
        }
        if lane != LaneId::NOTES {
            self.messages += 1;
            self.bytes += size;
        }
        let lane = self.lane(belongs);
        lane.messages += 1;
        lane.bytes += size;
    }

    /// A message has left memory.
    pub(crate) fn release(&mut self, position: Position) {
        let Some(held) = self.held.get_mut(&position) else { return };
        held.times -= 1;
        if held.times > 0 {
            return;
        }
        let Some(Held { lane: id, size, tenant, .. }) = self.held.remove(&position) else { return };
        self.outdate(position);
        if let Some(tenant) = tenant {
            self.usage.gone(tenant, size);
        }
        if id != LaneId::NOTES {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(size);
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.messages = lane.messages.saturating_sub(1);
        lane.bytes = lane.bytes.saturating_sub(size);
        lane.left += 1;
        if lane.is_over() {
            self.lanes.remove(&id);
        }
    }

    /// Whether a message is in memory.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.held.contains_key(&position)
    }

    /// How many more messages of a lane fit in memory.
    fn room<O: Order>(&self, id: LaneId, priority: Priority) -> usize {
        if id == LaneId::PAUSED {
            return 0;
        }
        let (window, bytes) = self.window;
        let lane = self.lanes.get(&id);
        let (has, has_bytes) = lane.map_or((0, 0), |lane| (lane.messages, lane.bytes));
        if id == LaneId::NOTES {
            let fits = has_bytes < bytes.div_ceil(4);
            return if fits { window.div_ceil(4).saturating_sub(has) } else { 0 }.max(usize::from(has == 0));
        }
        let free = (window + window.div_ceil(4)).saturating_sub(self.messages);
        let free_bytes = (bytes + bytes.div_ceil(4)).saturating_sub(self.bytes);
        if free == 0 || free_bytes == 0 {
            return 0;
        }
        let weight = weight(priority);
        let mut most = window.min(free.saturating_mul(weight));
        if lane.is_some_and(O::shares) {
            // Neither what is due nor what is in the mailbox keeps the other out.
            most -= most / 4;
        }
        if has == 0 {
            return most.max(1);
        }
        if has_bytes >= bytes.min(free_bytes.saturating_mul(weight)) { 0 } else { most.saturating_sub(has) }
    }

    /// How many more messages of an actor fit in memory.
    pub(crate) fn room_for(&self, belongs: Belongs) -> usize {
        self.room::<Timed>(belongs.lane, belongs.priority)
    }

    /// A page is asked for.
    pub(crate) fn ask<O: Order>(&mut self) {
        self.left[O::INDEX] = Some(HashSet::new());
    }

    /// What the pages that were asked for say of a message is no longer true.
    pub(crate) fn outdate(&mut self, position: Position) {
        for left in self.left.iter_mut().flatten() {
            left.insert(position);
        }
    }

    /// The page that was asked for is there: what has left memory since, of which the page may say what was.
    pub(crate) fn left<O: Order>(&mut self) -> HashSet<Position> {
        self.left[O::INDEX].take().unwrap_or_default()
    }

    /// A walk begins.
    pub(crate) fn walk<O: Order>(&mut self, start: Option<O::At>, fresh: bool) -> Walk<O::At> {
        self.walks[O::INDEX] += 1;
        Walk { id: self.walks[O::INDEX], start, fresh }
    }

    /// Whether a message that a walk met, and that is not in memory, is taken; if it is to wait, its lane
    /// remembers.
    pub(crate) fn admit<O: Order>(&mut self, walk: Walk<O::At>, belongs: Belongs, at: O::At) -> bool {
        let room = self.room::<O>(belongs.lane, belongs.priority);
        let line = self.lanes.get(&belongs.lane).map(O::line);
        let behind = line.is_some_and(|line| line.denied == walk.id);
        if !behind {
            let from = line.and_then(|line| line.unread);
            if !from.map_or(walk.fresh, |from| walk.start.is_none_or(|start| start <= from)) {
                return false;
            }
            if room > 0 {
                return true;
            }
        }
        let line = O::line_mut(self.lane(belongs));
        line.denied = walk.id;
        line.unread = Some(line.unread.map_or(at, |from| from.min(at)));
        false
    }

    /// A walk has come to `end` (`None`: to the end of all there is). Lanes that it has read go on there.
    pub(crate) fn walked<O: Order>(&mut self, walk: Walk<O::At>, end: Option<O::At>) {
        let mut waits = false;
        let resumed = LaneId::RESUMED;
        for lane in self.lanes.values_mut() {
            let line = O::line_mut(lane);
            if let Some(from) = line.unread
                && line.denied != walk.id
                && walk.start.is_none_or(|start| start <= from)
            {
                line.unread = end.map(|end| end.max(from));
            }
            waits |= line.unread.is_some();
            if O::INDEX == Mail::INDEX && lane.mail.unread.is_none() {
                lane.waiting = 0;
            }
        }
        self.lanes.retain(|_, lane| !lane.is_over());
        if self.lanes.get(&resumed).is_none_or(|lane| lane.mail.unread.is_none() && lane.due.unread.is_none()) {
            self.resumed.clear();
        }
        if O::INDEX == Mail::INDEX && !waits {
            self.usage.recount(self.held.values().filter_map(|held| Some((held.tenant?, held.size))));
        }
    }

    /// Where to read on, because a lane that waits has room, and for how many messages there is room there:
    /// for the highest priority first, but every other time for whoever has waited longest.
    pub(crate) fn next<O: Order>(&mut self) -> Option<(O::At, usize)> {
        let wanting = || {
            let lanes = self.lanes.iter().filter_map(|(id, lane)| Some((O::line(lane).unread?, *id, lane)));
            lanes.filter_map(|(from, id, lane)| {
                let room = self.room::<O>(id, lane.priority);
                (room > 0).then_some((from, weight(lane.priority), room))
            })
        };
        let oldest = wanting().map(|(from, ..)| from).min()?;
        let highest =
            wanting().max_by_key(|(from, weight, _)| (*weight, std::cmp::Reverse(*from))).map(|(from, ..)| from);
        let start = if self.turns.is_multiple_of(2) { highest.unwrap_or(oldest) } else { oldest };
        let room = wanting().filter(|(from, ..)| *from >= start).map(|(.., room)| room).sum();
        self.turns += 1;
        Some((start, room))
    }

    /// Whether any lane waits for room.
    pub(crate) fn waits<O: Order>(&self) -> bool {
        self.lanes.iter().any(|(id, lane)| *id != LaneId::PAUSED && O::line(lane).unread.is_some())
    }

    /// Whether anything at all waits, paused or not.
    pub(crate) fn any_unread<O: Order>(&self) -> bool {
        self.lanes.values().any(|lane| O::line(lane).unread.is_some())
    }

    /// Lanes that wait for room of which no message has left memory since this was last asked; `None` when
    /// none waits.
    pub(crate) fn stuck(&mut self) -> Option<HashSet<LaneId>> {
        let full = |(id, lane): (&LaneId, &Lane)| {
            let mail = lane.mail.unread.is_some() && self.room::<Mail>(*id, lane.priority) == 0;
            let due = lane.due.unread.is_some() && self.room::<Timed>(*id, lane.priority) == 0;
            ((mail || due) && *id != LaneId::PAUSED).then_some(*id)
        };
        let waiting: HashSet<LaneId> = self.lanes.iter().filter_map(full).collect();
        let crowded = self.messages >= self.window.0 + self.window.0.div_ceil(4);
        let mut stuck = HashSet::new();
        for (id, lane) in &mut self.lanes {
            let looked = lane.looked.take();
            if waiting.contains(id) {
                lane.looked = Some(lane.left);
                if looked == Some(lane.left) {
                    stuck.insert(*id);
                }
            }
        }
        if crowded && !stuck.is_empty() {
            // Any of them may be what keeps the others out.
            stuck.extend(self.lanes.keys());
        }
        (!waiting.is_empty()).then_some(stuck)
    }

    /// A message that was seen in the mailbox waits there.
    pub(crate) fn passed_over(&mut self, belongs: Belongs) {
        self.lane(belongs).waiting += 1;
    }

    /// A message that waited is taken.
    pub(crate) fn taken_up(&mut self, belongs: Belongs) {
        let lane = self.lane(belongs);
        lane.waiting = lane.waiting.saturating_sub(1);
    }

    /// A message that waited in the mailbox has been cancelled.
    pub(crate) fn cancelled(&mut self, belongs: Belongs, size: usize) {
        if let Some(tenant) = belongs.tenant {
            self.usage.gone(tenant, size);
        }
        if let Some(lane) = self.lanes.get_mut(&belongs.lane) {
            lane.waiting = lane.waiting.saturating_sub(1);
        }
    }

    /// Messages that wait in the mailbox: for room, and because they are paused.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let paused = self.lanes.get(&LaneId::PAUSED).map_or(0, |lane| lane.waiting);
        (self.lanes.values().map(|lane| lane.waiting).sum::<usize>() - paused, paused)
    }

    /// Whether the next message of a lane is among those that may have been running when the last owner
    /// died: it had the first of each lane in memory, and no more than a window of them.
    pub(crate) fn suspicious(&mut self, belongs: Belongs) -> bool {
        if belongs.lane == LaneId::NOTES {
            return false;
        }
        let lane = self.lane(belongs);
        let suspicious = lane.suspects > 0;
        if lane.suspects < usize::MAX {
            lane.suspects = lane.suspects.saturating_sub(1);
        }
        suspicious
    }
}
