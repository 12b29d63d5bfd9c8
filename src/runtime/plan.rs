//! What a node decides at each beat, from what it sees of the others by its own monotonic clock and
//! what it has open: pure, so every case can be tried.
//!
//! Invariant: a node acts as the owner of anything only within its lease time since the moment before
//! its last successful beat was sent, less one beat; the others wait the whole lease time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::assign::Assigned;
use crate::backend::Member;

/// Partitions handed over at once, so that no more than these stand still together.
const AT_ONCE: usize = 8;

/// How long a node may be silent, and how often it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    pub(crate) beat: Duration,
}

impl Times {
    pub(crate) fn of(lease: Duration) -> Self {
        let beat = (lease / 12).clamp(Duration::from_millis(50), Duration::from_millis(500));
        Self { lease, beat }
    }

    /// Until when this node may act as an owner, given when its last successful beat was sent.
    pub(crate) fn lapses(&self, proof: Instant) -> Instant {
        proof + self.lease.saturating_sub(self.beat)
    }
}

/// The beats of the others, and when each was first seen.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    seen: HashMap<u64, (u64, Instant)>,
}

impl Sight {
    /// Notes what is seen now.
    pub(crate) fn see(&mut self, members: &[Member], now: Instant) {
        let seen = members.iter().map(|member| {
            let known = self.seen.get(&member.id).filter(|(beat, _)| *beat == member.beat);
            (member.id, (member.beat, known.map_or(now, |(_, since)| *since)))
        });
        self.seen = seen.collect();
    }

    fn silent(&self, member: &Member, lease: Duration, now: Instant) -> bool {
        let since = self.seen.get(&member.id).map(|(_, since)| *since);
        since.is_some_and(|since| now.saturating_duration_since(since) >= lease)
    }

    /// When, after `now`, the next of the others will have been silent for too long.
    pub(crate) fn next(&self, me: u64, lease: Duration, now: Instant) -> Option<Instant> {
        let others = self.seen.iter().filter(|(id, _)| **id != me);
        others.map(|(_, (_, since))| *since + lease).filter(|at| *at > now).min()
    }
}

/// How a partition stands on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not open.
    Vacant,
    /// Being opened.
    Opening,
    /// Open.
    Open,
    /// Being handed over.
    Closing,
}

/// Everything a decision depends on.
pub(crate) struct Situation<'a> {
    pub(crate) me: u64,
    /// Who is there.
    pub(crate) members: &'a [Member],
    /// Those of them that partitions are assigned to.
    pub(crate) staying: &'a [u64],
    pub(crate) sight: &'a Sight,
    /// How each partition stands here, by number.
    pub(crate) standing: &'a [Standing],
    /// When the last successful beat was sent.
    pub(crate) proof: Instant,
    /// This node is on its way out.
    pub(crate) draining: bool,
}

/// What to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Stop everything here: nobody knows any more that this node lives.
    pub(crate) abandon: bool,
    /// Members that have been silent for too long.
    pub(crate) give_up: Vec<Member>,
    /// Partitions to take.
    pub(crate) open: Vec<u16>,
    /// Partitions to let go of, each with its new owner.
    pub(crate) hand_over: Vec<(u16, u64)>,
}

/// Decides, right after a successful beat.
pub(crate) fn plan(situation: &Situation<'_>, times: Times, now: Instant) -> Plan {
    let Situation { me, members, staying, sight, standing, proof, draining } = *situation;
    if now >= times.lapses(proof) || !members.iter().any(|member| member.id == me) {
        return Plan { abandon: true, ..Plan::default() };
    }
    let silent = |member: &&Member| member.id != me && sight.silent(member, times.lease, now);
    let give_up = members.iter().filter(silent).cloned().collect();
    if draining {
        return Plan { give_up, ..Plan::default() };
    }
    let closing = standing.iter().filter(|standing| **standing == Standing::Closing).count();
    let mut plan = Plan { give_up, ..Plan::default() };
    let assigned = Assigned::among(members, staying);
    for (partition, standing) in (0u16..).zip(standing) {
        match (standing, assigned.owner(partition)) {
            (Standing::Vacant, Some(owner)) if owner == me => plan.open.push(partition),
            (Standing::Open, Some(owner)) if owner != me && closing + plan.hand_over.len() < AT_ONCE => {
                plan.hand_over.push((partition, owner));
            }
            _ => {}
        }
    }
    plan
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
