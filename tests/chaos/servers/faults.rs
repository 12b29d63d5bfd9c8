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
            Kind::Flap(which) => self.network(which, Duration::ZERO, |way| {
                way.delay_one(Way::ToClient, fault.by);
                let until = Instant::now() + fault.lasts;
                while Instant::now() < until {
                    lasts(fault.by + BETWEEN);
                    way.hang_up();
                }
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

/// A fault has a duration.
pub(super) fn lasts(time: Duration) {
    thread::sleep(time);
}
