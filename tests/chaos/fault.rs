//! What goes wrong, when, and in which mixture: decided by the seed.

use std::{fmt, time::Duration};

use crate::{LEASE, support::Random};

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeFault {
    /// SIGKILL; another one starts.
    Kill,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    Pause(Duration),
    /// SIGTERM; another one starts.
    Leave,
}

/// What happens to a server, or to the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFault {
    /// SIGKILL, and after a while started again on the same directory.
    Kill(Which, Duration),
    /// All connections closed and new ones refused.
    Cut(Which, Duration),
    /// Everything so much later, each way.
    Delay(Which, Duration, Duration),
    /// Connections stay and nothing comes through.
    Stall(Which, Duration),
    /// Redis has no memory left and refuses to write.
    Full(Duration),
}

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Redis,
    Mongo,
}

/// What happens between two waits for progress: to a node, to a server, or to both at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) node: Option<NodeFault>,
    pub(crate) server: Option<ServerFault>,
    /// How many promises must follow.
    pub(crate) promises: u64,
}

/// All rounds, without end: every kind of fault comes once before any comes twice.
pub(crate) struct Schedule {
    random: Random,
    deck: Vec<Round>,
}

impl Schedule {
    pub(crate) fn of(seed: u64) -> Self {
        Self { random: Random::seeded(seed ^ 0xfa17), deck: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Round {
        if self.deck.is_empty() {
            self.deck = self.shuffled();
        }
        let promises = 40 + self.random.below(200);
        Round { promises, ..self.deck.pop().expect("filled above") }
    }

    fn shuffled(&mut self) -> Vec<Round> {
        let nodes: Vec<NodeFault> = (0..6).map(|kind| self.node(kind)).collect();
        let servers: Vec<ServerFault> = (0..9).map(|kind| self.server(kind)).collect();
        let mut deck: Vec<Round> = Vec::new();
        deck.extend(nodes.into_iter().map(|node| Round { node: Some(node), ..Round::default() }));
        deck.extend(servers.into_iter().map(|server| Round { server: Some(server), ..Round::default() }));
        for _ in 0..5 {
            let (node, server) = (self.random.below(6), self.random.below(9));
            let (node, server) = (Some(self.node(node)), Some(self.server(server)));
            deck.push(Round { node, server, promises: 0 });
        }
        for last in (1..deck.len()).rev() {
            deck.swap(last, self.random.below(last as u64 + 1) as usize);
        }
        deck
    }

    fn node(&mut self, kind: u64) -> NodeFault {
        match kind {
            0..3 => NodeFault::Kill,
            3 => NodeFault::Pause(LEASE + self.millis(500, 3_000)),
            // About as long as the lease: who wins is a race.
            4 => NodeFault::Pause(LEASE + self.millis(0, 300)),
            _ => NodeFault::Leave,
        }
    }

    fn server(&mut self, kind: u64) -> ServerFault {
        let which = if kind.is_multiple_of(2) { Which::Redis } else { Which::Mongo };
        match kind {
            0 | 1 => ServerFault::Kill(which, self.millis(0, 1_500)),
            2 | 3 => ServerFault::Cut(which, self.millis(1_000, 3_000)),
            4 | 5 => ServerFault::Delay(which, self.millis(50, 200), self.millis(2_000, 4_000)),
            6 | 7 => ServerFault::Stall(which, LEASE + self.millis(300, 2_000)),
            _ => ServerFault::Full(self.millis(1_500, 4_000)),
        }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.random.below(most - least))
    }
}

impl NodeFault {
    /// What kind of fault it is, for counting.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill => "node: SIGKILL, another starts",
            Self::Pause(_) => "node: SIGSTOP beyond the lease, SIGCONT",
            Self::Leave => "node: SIGTERM, another starts",
        }
    }
}

impl ServerFault {
    /// What kind of fault it is, for counting.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill(Which::Redis, _) => "Redis: SIGKILL, restart",
            Self::Kill(Which::Mongo, _) => "MongoDB: SIGKILL, restart",
            Self::Cut(Which::Redis, _) => "Redis: connections cut",
            Self::Cut(Which::Mongo, _) => "MongoDB: connections cut",
            Self::Delay(Which::Redis, ..) => "Redis: slow network",
            Self::Delay(Which::Mongo, ..) => "MongoDB: slow network",
            Self::Stall(Which::Redis, _) => "Redis: silent network",
            Self::Stall(Which::Mongo, _) => "MongoDB: silent network",
            Self::Full(_) => "Redis: out of memory",
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.node, self.server) {
            (Some(node), Some(server)) => write!(f, "{node:?} and {server:?}"),
            (Some(node), None) => write!(f, "{node:?}"),
            (None, Some(server)) => write!(f, "{server:?}"),
            (None, None) => f.write_str("nothing"),
        }
    }
}
