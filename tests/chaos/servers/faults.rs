//! What happens to the servers.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Keeper, Servers, States, shard};
use crate::{
    fault::{Kind, ServerFault, Which},
    history::now,
    support::{
        Random,
        servers::{Proxy, Redis, Way},
    },
};

/// What is taken for a large request: more than one call of one message.
const LARGE: usize = 4 << 10;

/// How many answers come before connections end again: those of so long.
const BETWEEN: Duration = Duration::from_millis(150);

/// What the calls that write are named after: the other connections stay as they are, so that leases are kept and
/// others can take over.
const WRITES: &[&str] = &["append", "commit", "redo", "receive"];

/// For how long no commit reaches Redis before a node dies that has written to MongoDB: less than the lease.
const STRANDED: Duration = Duration::from_millis(1_600);

/// A time of which Redis may have forgotten everything: from its last moment that is kept until it served again.
/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// What became of a fault.
#[derive(Default)]
pub(crate) struct Suffered {
    /// What Redis may have lost, having confirmed it.
    pub(crate) loss: Option<Loss>,
    /// What no fault explains.
    pub(crate) surprises: Vec<String>,
}

impl Servers {
    /// Lets a fault happen, from its beginning to its end.
    pub(crate) fn suffer(&mut self, fault: ServerFault, random: &mut Random) -> Suffered {
        let mut suffered = Suffered::default();
        match fault.kind {
            Kind::Kill(which) => self.kill(which, fault.lasts),
            Kind::Cut(which) => self.network(which, fault.lasts, Proxy::cut),
            Kind::Stall(which) => self.network(which, fault.lasts, Proxy::stall),
            Kind::Delay(which) => self.network(which, fault.lasts, |way| way.delay(fault.by)),
            Kind::Slow(which, to) => self.network(which, fault.lasts, |way| way.delay_one(to, fault.by)),
            Kind::Lose(which, to) => self.network(which, fault.lasts, |way| way.lose(to)),
            Kind::Tear(which) => self.network(which, fault.lasts, |way| way.cut_large(LARGE)),
            Kind::Flap(which) => self.network(which, Duration::ZERO, |way| flap(way, fault)),
            Kind::Strand => self.network(Which::Redis, Duration::ZERO, |way| {
                way.only(&["commit"]);
                way.lose(Way::ToServer);
                lasts(STRANDED);
                way.heal();
                way.only(WRITES);
                flap(way, fault);
            }),
            Kind::Full => {
                let redis = self.one();
                let info = redis.cli(&["info", "memory"]);
                let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:")).expect("it says");
                redis.config_set("maxmemory", used);
                lasts(fault.lasts);
                redis.config_set("maxmemory", "0");
            }
            Kind::RollBack => {
                let from = now();
                let redis = self.one();
                let kept = redis.keep();
                lasts(fault.lasts);
                redis.roll_back(&kept);
                suffered.loss = Some(Loss { from, to: now() });
            }
            Kind::Promote | Kind::PromoteWhole => {
                let from = now();
                let Keeper::Pair(pair, way) = &mut self.redis else { panic!("there is no replica here") };
                if fault.kind == Kind::Promote {
                    pair.part();
                    lasts(fault.lasts);
                }
                pair.promote(way);
                // Even a replica that hears everything hears it a moment later.
                if self.scenario.accept == "memory" {
                    suffered.loss = Some(Loss { from, to: now() });
                }
            }
            Kind::MoveSlot | Kind::StallShard | Kind::KillShard => {
                let Keeper::Cluster(cluster) = &mut self.redis else { panic!("there is one master here") };
                suffered.surprises = shard::suffer(cluster, fault, random);
            }
            Kind::StepDown | Kind::KillPrimary => {
                let States::Members(members) = &mut self.mongo else { panic!("there is one MongoDB here") };
                if fault.kind == Kind::StepDown {
                    members.step_down();
                } else {
                    let killed = members.kill_primary();
                    members.primary();
                    lasts(fault.lasts);
                    members.restart(killed);
                }
                members.wait_whole();
            }
        }
        self.heal();
        suffered
    }

    fn kill(&mut self, which: Which, down: Duration) {
        match which {
            Which::Redis => {
                let redis = self.one();
                redis.kill();
                lasts(down);
                redis.restart();
            }
            Which::Mongo => {
                let States::One(mongo, _) = &mut self.mongo else { panic!("there are several MongoDBs here") };
                mongo.kill();
                lasts(down);
                mongo.restart();
            }
        }
    }

    fn network(&self, which: Which, time: Duration, fault: impl FnOnce(&Proxy)) {
        fault(self.way(which).unwrap_or_else(|| panic!("{which} is not behind a proxy here")));
        lasts(time);
    }

    fn one(&mut self) -> &mut Redis {
        match &mut self.redis {
            Keeper::One(redis, _) => redis,
            _ => panic!("there are several Redis here"),
        }
    }
}

/// One direction slow and all connections cut, then the other, and so on.
fn flap(way: &Proxy, fault: ServerFault) {
    let until = Instant::now() + fault.lasts;
    for slow in [Way::ToClient, Way::ToServer].into_iter().cycle() {
        way.delay_one(slow, fault.by);
        lasts(fault.by + BETWEEN);
        way.hang_up();
        way.delay_one(slow, Duration::ZERO);
        if Instant::now() > until {
            return;
        }
    }
}

/// A fault has a duration.
pub(super) fn lasts(time: Duration) {
    thread::sleep(time);
}
