//! What there is to run: on which servers, what goes wrong there, and what they promise.

use std::time::Duration;

use crate::{
    fault::{
        Kind::{self, *},
        Which::{Mongo, Redis},
    },
    support::servers::Way::{ToClient, ToServer},
};

/// How Redis stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One server.
    One,
    /// A master with a replica.
    Pair,
    /// Three masters that share the slots.
    Cluster,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Its heading in the report.
    pub(crate) title: &'static str,
    /// What it stands on, within a sentence.
    pub(crate) on: &'static str,
    pub(crate) redis: Layout,
    /// `appendfsync`.
    pub(crate) fsync: &'static str,
    /// `store.accept`.
    pub(crate) accept: &'static str,
    /// MongoDB has three members instead of one.
    pub(crate) members: bool,
    pub(crate) kinds: &'static [Kind],
    /// Clocks of nodes are set. Then nothing is told that is due at a time: whose time would that be?
    pub(crate) clocks: bool,
    /// Its part of the time that all of them have, in percent.
    pub(crate) share: u32,
}

pub(crate) const PLAIN: Scenario = Scenario {
    title: "Nodes, servers and networks",
    on: "a Redis that answers after its fsync and a MongoDB replica set of one, each behind a proxy",
    redis: Layout::One,
    fsync: "always",
    accept: "fsync",
    members: false,
    kinds: &[
        Kill(Redis),
        Kill(Mongo),
        Cut(Redis),
        Cut(Mongo),
        Delay(Redis),
        Delay(Mongo),
        Stall(Redis),
        Stall(Mongo),
        Full,
        Slow(Redis, ToServer),
        Slow(Redis, ToClient),
        Slow(Mongo, ToClient),
        Lose(Redis, ToServer),
        Lose(Redis, ToClient),
        Lose(Redis, ToClient),
        Lose(Mongo, ToClient),
        Tear(Redis),
        Tear(Mongo),
        Flap(Redis),
        Strand,
        Flap(Mongo),
    ],
    clocks: false,
    share: 26,
};

pub(crate) const LAST_SECOND: Scenario = Scenario {
    title: "Redis loses its last second",
    on: "a Redis with `appendfsync everysec`, `store.accept = \"memory\"` and a MongoDB replica set of one, each \
         behind a proxy",
    redis: Layout::One,
    fsync: "everysec",
    accept: "memory",
    members: false,
    kinds: &[RollBack, RollBack, Kill(Redis), Kill(Mongo), Lose(Redis, ToClient), Stall(Redis)],
    clocks: false,
    share: 20,
};

pub(crate) const PROMOTED: Scenario = Scenario {
    title: "A replica that is behind is promoted",
    on: "a Redis with a replica, `store.accept = \"memory\"` and a MongoDB replica set of one, each behind a proxy",
    redis: Layout::Pair,
    fsync: "everysec",
    accept: "memory",
    members: false,
    kinds: &[Promote, Promote, PromoteWhole, Cut(Redis), Lose(Redis, ToClient), Kill(Mongo)],
    clocks: false,
    share: 12,
};

pub(crate) const REPLICATED: Scenario = Scenario {
    title: "A replica that has confirmed everything is promoted",
    on: "a Redis with a replica, `store.accept = \"replicated\"` and a MongoDB replica set of one, each behind a proxy",
    redis: Layout::Pair,
    fsync: "everysec",
    accept: "replicated",
    members: false,
    kinds: &[Promote, Promote, PromoteWhole, Flap(Redis), Lose(Redis, ToClient), Kill(Mongo)],
    clocks: false,
    share: 10,
};

pub(crate) const CLUSTER: Scenario = Scenario {
    title: "A Redis Cluster is resharded, and one master stands still",
    on: "a Redis Cluster of three masters that answer after their fsync, and a MongoDB replica set of one behind a \
         proxy",
    redis: Layout::Cluster,
    fsync: "always",
    accept: "fsync",
    members: false,
    kinds: &[MoveSlot, MoveSlot, StallShard, KillShard, Kill(Mongo)],
    clocks: false,
    share: 16,
};

pub(crate) const MEMBERS: Scenario = Scenario {
    title: "MongoDB elects another primary",
    on: "a Redis that answers after its fsync, behind a proxy, and a MongoDB replica set of three",
    redis: Layout::One,
    fsync: "always",
    accept: "fsync",
    members: true,
    kinds: &[StepDown, KillPrimary, KillPrimary, Lose(Redis, ToClient)],
    clocks: false,
    share: 8,
};

pub(crate) const CLOCKS: Scenario = Scenario {
    title: "A clock is more than a day ahead",
    on: "a Redis that answers after its fsync and a MongoDB replica set of one, each behind a proxy; what has ended is \
         kept for a day",
    redis: Layout::One,
    fsync: "always",
    accept: "fsync",
    members: false,
    kinds: &[Kill(Redis), Lose(Redis, ToClient)],
    clocks: true,
    share: 8,
};

impl Scenario {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Self; 7] = [PLAIN, LAST_SECOND, PROMOTED, REPLICATED, CLUSTER, MEMBERS, CLOCKS];

    /// How long it runs when all of them together have so much.
    pub(crate) fn lasts(&self, all: Duration) -> Duration {
        all * self.share / 100
    }
}
