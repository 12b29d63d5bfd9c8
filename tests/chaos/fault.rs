//! What goes wrong, when, and in which mixture: decided by the seed, of the kinds that a scenario has.

use std::{fmt, time::Duration};

use crate::{
    LEASE,
    scenario::Scenario,
    support::{Random, servers::Way},
};

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeFault {
    /// SIGKILL; another one starts.
    Kill,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    Pause(Duration),
    /// SIGTERM; another one starts.
    Leave,
    /// Its clock is set more than a day ahead; after a while SIGKILL, and another one starts.
    Ahead(Duration),
}

/// What can happen to a server, or to the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SIGKILL, and after a while started again on the same directory.
    Kill(Which),
    /// All connections closed and new ones refused.
    Cut(Which),
    /// Everything so much later, each way.
    Delay(Which),
    /// Connections stay and nothing comes through.
    Stall(Which),
    /// One direction slow.
    Slow(Which, Way),
    /// What goes in one direction is lost; the connections end afterwards.
    Lose(Which, Way),
    /// Each large request arrives in half, and its connection ends.
    Tear(Which),
    /// All connections end again and again, before many answers came, or before many requests did.
    Flap(Which),
    /// No commit reaches Redis, so that they are written in one place and not in the other, and then
    /// connections that write end again and again while others finish them.
    Strand,
    /// Redis has no memory left and refuses to write.
    Full,
    /// The machine of Redis dies: what it wrote since a moment ago is gone.
    RollBack,
    /// The master dies and its replica is promoted, which had not heard of what was written last.
    Promote,
    /// The same after a moment in which the replica heard everything that it had to.
    PromoteWhole,
    /// The slot of a partition moves to another master, key by key, and back.
    MoveSlot,
    /// One master of several stands still.
    StallShard,
    /// SIGKILL of one master of several, and after a while started again.
    KillShard,
    /// The primary of MongoDB steps down.
    StepDown,
    /// SIGKILL of the primary of MongoDB; it starts again after another was elected.
    KillPrimary,
}

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Redis,
    Mongo,
}

/// A fault of a server: for how long, and by how much where it is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerFault {
    pub(crate) kind: Kind,
    pub(crate) lasts: Duration,
    pub(crate) by: Duration,
}

/// What happens between two waits for progress: to a node, to a server, or to both at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) node: Option<NodeFault>,
    pub(crate) server: Option<ServerFault>,
    /// A command with a very large outbox is handled meanwhile.
    pub(crate) outbox: bool,
    /// How many promises must follow.
    pub(crate) promises: u64,
}

/// Kinds of a node's faults; where clocks are set, one more.
const NODES: u64 = 6;
/// How often a clock is set, alone.
const SET: u64 = 3;
/// Rounds in which a node and a server fail at once.
const BOTH: u64 = 5;

/// All rounds, without end: every kind of fault comes once before any comes twice.
pub(crate) struct Schedule {
    random: Random,
    kinds: &'static [Kind],
    /// So many kinds of a node's faults.
    nodes: u64,
    /// Only rounds with these words in their description.
    only: Option<String>,
    deck: Vec<Round>,
}

impl Schedule {
    pub(crate) fn of(seed: u64, scenario: &Scenario) -> Self {
        let nodes = NODES + u64::from(scenario.clocks);
        Self {
            random: Random::seeded(seed ^ 0xfa17),
            kinds: scenario.kinds,
            nodes,
            only: std::env::var("CHAOS_ONLY").ok(),
            deck: Vec::new(),
        }
    }

    pub(crate) fn next(&mut self) -> Round {
        while self.deck.is_empty() {
            self.deck = self.shuffled();
            let only = self.only.as_deref().unwrap_or_default();
            self.deck.retain(|round| only.split('&').all(|words| round.to_string().contains(words)));
        }
        let promises = 40 + self.random.below(200);
        Round { promises, ..self.deck.pop().expect("filled above") }
    }

    fn shuffled(&mut self) -> Vec<Round> {
        let mut deck: Vec<Round> = Vec::new();
        for kind in (0..self.nodes).chain(self.set()) {
            deck.push(Round { node: Some(self.node(kind)), ..Round::default() });
        }
        for kind in self.kinds {
            deck.push(Round { server: Some(self.server(*kind)), ..Round::default() });
        }
        for _ in 0..BOTH {
            let (node, kind) = (self.random.below(self.nodes), self.any());
            deck.push(Round { node: Some(self.node(node)), server: Some(self.server(kind)), ..Round::default() });
        }
        // What takes something from Redis, or leaves it open what was done, is worst when an owner dies with it.
        for kind in self.kinds.iter().filter(|kind| kind.loses() || matches!(kind, Kind::Flap(_) | Kind::Strand)) {
            deck.push(Round { node: Some(NodeFault::Kill), server: Some(self.server(*kind)), ..Round::default() });
        }
        // Alone, with a killed node, with any server's fault, and with all that leaves it open what arrived.
        let any = self.any();
        let open = self.kinds.iter().copied().filter(|kind| kind.leaves_open());
        let servers: Vec<Option<Kind>> = [None, Some(any)].into_iter().chain(open.map(Some)).collect();
        for kind in servers {
            let server = kind.map(|kind| self.server(kind));
            deck.push(Round { server, outbox: true, ..Round::default() });
        }
        let flaps = self.kinds.iter().copied().filter(|kind| matches!(kind, Kind::Flap(Which::Redis) | Kind::Strand));
        let with_a_kill: Vec<Option<Kind>> = [None].into_iter().chain(flaps.map(Some)).collect();
        for kind in with_a_kill {
            let server = kind.map(|kind| self.server(kind));
            deck.push(Round { node: Some(NodeFault::Kill), server, outbox: true, promises: 0 });
        }
        for last in (1..deck.len()).rev() {
            deck.swap(last, self.random.below(last as u64 + 1) as usize);
        }
        deck
    }

    /// Clocks that are set alone, besides the first.
    fn set(&self) -> impl Iterator<Item = u64> + use<> {
        let ahead = self.nodes - 1;
        (0..SET).filter(move |_| ahead == NODES).map(move |_| ahead)
    }

    fn any(&mut self) -> Kind {
        self.kinds[self.random.below(self.kinds.len() as u64) as usize]
    }

    fn node(&mut self, kind: u64) -> NodeFault {
        match kind {
            0..3 => NodeFault::Kill,
            3 => NodeFault::Pause(LEASE + self.millis(500, 3_000)),
            // About as long as the lease: who wins is a race.
            4 => NodeFault::Pause(LEASE + self.millis(0, 300)),
            5 => NodeFault::Leave,
            _ => NodeFault::Ahead(self.millis(3_000, 8_000)),
        }
    }

    fn server(&mut self, kind: Kind) -> ServerFault {
        let lasts = match kind {
            Kind::Kill(_) | Kind::KillShard | Kind::KillPrimary => self.millis(0, 1_500),
            Kind::Cut(_) | Kind::Tear(_) => self.millis(1_000, 3_000),
            Kind::Delay(_) | Kind::Slow(..) => self.millis(2_000, 4_000),
            // A node that dies meanwhile is replaced meanwhile.
            Kind::Flap(_) | Kind::Strand => LEASE + self.millis(2_000, 5_000),
            Kind::Stall(_) => LEASE + self.millis(300, 2_000),
            // Longer than a call is waited for, or a little.
            Kind::Lose(..) => self.millis(300, 6_000),
            Kind::Full => self.millis(1_500, 4_000),
            // "About a second", as `everysec` says.
            Kind::RollBack | Kind::Promote => self.millis(300, 1_200),
            Kind::PromoteWhole | Kind::MoveSlot | Kind::StepDown => self.millis(200, 1_500),
            Kind::StallShard => self.millis(5_000, 7_000),
        };
        let by = match kind {
            Kind::Slow(..) | Kind::Flap(_) | Kind::Strand => self.millis(200, 600),
            _ => self.millis(50, 200),
        };
        ServerFault { kind, lasts, by }
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.random.below(most - least))
    }
}

impl Kind {
    /// Whether Redis does what it is asked and the answer is late or never comes.
    fn leaves_open(self) -> bool {
        matches!(
            self,
            Self::Flap(Which::Redis)
                | Self::Slow(Which::Redis, Way::ToClient)
                | Self::Lose(Which::Redis, Way::ToClient)
        )
    }

    /// Whether Redis forgets something that it has confirmed.
    pub(crate) fn loses(self) -> bool {
        matches!(self, Self::RollBack | Self::Promote)
    }
}

impl NodeFault {
    /// What kind of fault it is, for counting.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Kill => "node: SIGKILL, another starts",
            Self::Pause(_) => "node: SIGSTOP beyond the lease, SIGCONT",
            Self::Leave => "node: SIGTERM, another starts",
            Self::Ahead(_) => "node: its clock 26 hours ahead, then SIGKILL, another starts",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Mongo => "MongoDB",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(which) => write!(f, "{which}: SIGKILL, restart"),
            Self::Cut(which) => write!(f, "{which}: connections cut"),
            Self::Delay(which) => write!(f, "{which}: slow network"),
            Self::Stall(which) => write!(f, "{which}: silent network"),
            Self::Slow(which, Way::ToServer) => write!(f, "{which}: requests slow"),
            Self::Slow(which, Way::ToClient) => write!(f, "{which}: answers slow"),
            Self::Lose(which, Way::ToServer) => write!(f, "{which}: requests lost"),
            Self::Lose(which, Way::ToClient) => write!(f, "{which}: answers lost"),
            Self::Tear(which) => write!(f, "{which}: connections cut within large requests"),
            Self::Flap(which) => write!(f, "{which}: slow one way or the other, connections cut again and again"),
            Self::Strand => f.write_str("Redis: commits lost, then writing connections cut again and again"),
            Self::Full => f.write_str("Redis: out of memory"),
            Self::RollBack => f.write_str("Redis: SIGKILL, restart without its last second"),
            Self::Promote => f.write_str("Redis: master killed, a replica behind it promoted"),
            Self::PromoteWhole => f.write_str("Redis: master killed, its replica promoted"),
            Self::MoveSlot => f.write_str("Redis: a slot moved to another master and back"),
            Self::StallShard => f.write_str("Redis: one master SIGSTOP, SIGCONT"),
            Self::KillShard => f.write_str("Redis: one master SIGKILL, restart"),
            Self::StepDown => f.write_str("MongoDB: the primary steps down"),
            Self::KillPrimary => f.write_str("MongoDB: the primary SIGKILL, restart"),
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.map(|node| format!("{node:?}"));
        let server = self.server.map(|fault| format!("{} ({:?})", fault.kind, fault.lasts));
        let outbox = self.outbox.then(|| "a large outbox".to_owned());
        let all: Vec<String> = [node, server, outbox].into_iter().flatten().collect();
        f.write_str(&if all.is_empty() { "nothing".to_owned() } else { all.join(" and ") })
    }
}
