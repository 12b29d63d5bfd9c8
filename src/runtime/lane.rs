//! A lane: the messages of a partition that share a budget of its memory. Those of one tenant and priority
//! are one lane; those of actors without a tenant are the lane of their kind.
//!
//! Invariant: the lane of a message follows from its address alone, so all messages of a key are in one lane
//! and keep their order there (G2).

use crate::{
    actor::Priority,
    backend::{Moment, Tenant},
    envelope::Position,
};

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId(u64);

impl LaneId {
    /// What no handler handles: what comes for commands that have begun, and what nobody can read.
    pub(crate) const NOTES: Self = Self(0);
    /// Where there are more lanes than are told apart, the rest.
    pub(crate) const REST: Self = Self(1);
    /// All that is paused.
    pub(crate) const PAUSED: Self = Self(2);
    /// What was paused, until what waited meanwhile has been read.
    pub(crate) const RESUMED: Self = Self(3);

    fn named(name: &str, seed: u64) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), seed).max(16))
    }

    /// Whether messages come here by what is done to them, instead of by whose they are.
    pub(crate) fn is_special(self) -> bool {
        self.0 < 16
    }
}

/// Where an actor's messages belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) lane: LaneId,
    pub(crate) priority: Priority,
    pub(crate) tenant: Option<Tenant>,
}

impl Belongs {
    pub(crate) fn of(kind: &str, tenant: Option<&str>, priority: Priority) -> Self {
        let seed = match priority {
            Priority::High => 0,
            Priority::Normal => 2,
            Priority::Low => 4,
        };
        let lane = tenant.map_or_else(|| LaneId::named(kind, seed + 1), |tenant| LaneId::named(tenant, seed));
        Self { lane, priority, tenant: tenant.map(Tenant::of) }
    }

    /// One of the lanes that are nobody's.
    pub(crate) fn special(lane: LaneId) -> Self {
        Self { lane, priority: Priority::Normal, tenant: None }
    }
}

/// How often a lane's limit is what is free: alone, one of [`Priority::Normal`] has the whole window.
pub(super) fn weight(priority: Priority) -> usize {
    match priority {
        Priority::High => 16,
        Priority::Normal => 4,
        Priority::Low => 1,
    }
}

/// How far a lane was read in one of the two orders there are.
pub(crate) struct Line<At> {
    /// Everything before this is in memory or gone; `None` when everything is that was seen.
    pub(super) unread: Option<At>,
    /// The walk in which one of its messages found no room: what is behind that waits too.
    pub(super) denied: u64,
}

impl<At> Default for Line<At> {
    fn default() -> Self {
        Self { unread: None, denied: 0 }
    }
}

/// A lane of which something is in memory or waits for room there.
pub(crate) struct Lane {
    pub(super) priority: Priority,
    /// Messages and bytes in memory.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    pub(super) mail: Line<Position>,
    pub(super) due: Line<Moment>,
    /// Messages that were seen in the mailbox and wait there, roughly.
    pub(super) waiting: usize,
    /// How many messages have left, and how many had at the last look.
    pub(super) left: u64,
    pub(super) looked: Option<u64>,
    /// How many of the next messages may have been running when the last owner died.
    pub(super) suspects: usize,
}

impl Lane {
    pub(super) fn new(priority: Priority, suspects: usize) -> Self {
        Self {
            priority,
            messages: 0,
            bytes: 0,
            mail: Line::default(),
            due: Line::default(),
            waiting: 0,
            left: 0,
            looked: None,
            suspects,
        }
    }

    /// Whether nothing needs to be known of it.
    pub(super) fn is_over(&self) -> bool {
        self.messages == 0 && self.mail.unread.is_none() && self.due.unread.is_none()
    }
}

/// One of the two orders in which messages are read.
pub(crate) trait Order {
    /// A place in it.
    type At: Copy + Ord;
    fn line(lane: &Lane) -> &Line<Self::At>;
    fn line_mut(lane: &mut Lane) -> &mut Line<Self::At>;
    /// Whether messages of the other order wait for room too.
    fn shares(lane: &Lane) -> bool;
    /// Which of the two.
    const INDEX: usize;
}

/// The mailbox, by position.
pub(crate) struct Mail;

impl Order for Mail {
    type At = Position;
    const INDEX: usize = 0;

    fn line(lane: &Lane) -> &Line<Position> {
        &lane.mail
    }

    fn line_mut(lane: &mut Lane) -> &mut Line<Position> {
        &mut lane.mail
    }

    fn shares(lane: &Lane) -> bool {
        lane.due.unread.is_some()
    }
}

/// The deferred messages, by the time they are due.
pub(crate) struct Timed;

impl Order for Timed {
    type At = Moment;
    const INDEX: usize = 1;

    fn line(lane: &Lane) -> &Line<Moment> {
        &lane.due
    }

    fn line_mut(lane: &mut Lane) -> &mut Line<Moment> {
        &mut lane.due
    }

    fn shares(lane: &Lane) -> bool {
        lane.mail.unread.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_one_lane_over_all_kinds_and_a_kind_without_tenants_is_one_of_its_own() {
        let of = |kind, tenant, priority| Belongs::of(kind, tenant, priority).lane;
        let normal = Priority::Normal;
        assert_eq!(of("order", Some("acme"), normal), of("mail", Some("acme"), normal));
        assert_ne!(of("order", Some("acme"), normal), of("order", Some("acme"), Priority::High));
        assert_ne!(of("order", None, normal), of("mail", None, normal));
        assert_ne!(of("order", None, normal), of("mail", Some("order"), normal));
        assert!(!of("order", None, normal).is_special());
    }
}
