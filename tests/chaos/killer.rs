//! The killer: makes one round of faults after another under load, heals, and waits for progress
//! before the next.

use std::{collections::BTreeMap, thread, time::Duration, time::Instant};

use crate::{
    fault::{NodeFault, Round, Schedule, ServerFault, Which},
    history::{History, now},
    nodes::Nodes,
    servers::Servers,
    stage::{Curtain, Stage},
    support::Random,
    takeover::{Prober, Takeover},
};

/// What was done.
#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) rounds: u32,
    /// How often each kind of fault.
    pub(crate) faults: BTreeMap<&'static str, u32>,
    pub(crate) takeovers: Vec<Takeover>,
    /// When each round began, and when every node was ready again.
    pub(crate) times: Vec<Trouble>,
}

/// A time in which something was wrong, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Makes faults for so long.
pub(crate) fn run(
    seed: u64,
    lasting: Duration,
    servers: &mut Servers,
    nodes: &mut Nodes<'_>,
    stage: &Stage,
    history: &History,
) -> Deeds {
    let _curtain = Curtain(stage);
    let mut schedule = Schedule::of(seed);
    let mut random = Random::seeded(seed ^ 0x4b11);
    let mut prober = Prober::new(stage, history);
    let mut deeds = Deeds::default();
    let began = Instant::now();
    stage.hear(100);
    while began.elapsed() < lasting {
        let round = schedule.next();
        let slot = random.below(nodes.len() as u64) as usize;
        let offset = Duration::from_millis(random.below(1_500));
        println!("{:>5.1}s round {}: {round}", began.elapsed().as_secs_f64(), deeds.rounds);
        let from = now();
        deeds.takeovers.extend(play(round, slot, offset, servers, nodes, &mut prober));
        for kind in [round.node.map(NodeFault::kind), round.server.map(ServerFault::kind)].into_iter().flatten() {
            *deeds.faults.entry(kind).or_default() += 1;
        }
        deeds.rounds += 1;
        nodes.recover();
        deeds.times.push(Trouble { from, to: now() });
        stage.hear(round.promises);
    }
    servers.heal();
    nodes.recover();
    deeds
}

/// One round. A node's fault begins somewhere within the server's.
fn play(
    round: Round,
    slot: usize,
    offset: Duration,
    servers: &mut Servers,
    nodes: &mut Nodes<'_>,
    prober: &mut Prober<'_>,
) -> Vec<Takeover> {
    let alone = round.server.is_none();
    thread::scope(|scope| {
        if let Some(fault) = round.server {
            scope.spawn(move || server(fault, servers));
        }
        if !alone && round.node.is_some() {
            lasts(offset);
        }
        match round.node {
            None => Vec::new(),
            Some(NodeFault::Kill) => {
                let takeovers = match alone {
                    true => prober.measure(slot, nodes),
                    false => {
                        nodes.kill(slot);
                        Vec::new()
                    }
                };
                nodes.fill(slot);
                takeovers
            }
            Some(NodeFault::Pause(time)) => {
                nodes.pause(slot);
                lasts(time);
                nodes.resume(slot);
                Vec::new()
            }
            Some(NodeFault::Leave) => {
                nodes.leave(slot);
                nodes.fill(slot);
                Vec::new()
            }
        }
    })
}

fn server(fault: ServerFault, servers: &mut Servers) {
    match fault {
        ServerFault::Kill(Which::Redis, down) => {
            servers.redis.kill();
            lasts(down);
            servers.redis.restart();
        }
        ServerFault::Kill(Which::Mongo, down) => {
            servers.mongo.kill();
            lasts(down);
            servers.mongo.restart();
        }
        ServerFault::Cut(which, time) => {
            proxy(which, servers).cut();
            lasts(time);
        }
        ServerFault::Delay(which, each_way, time) => {
            proxy(which, servers).delay(each_way);
            lasts(time);
        }
        ServerFault::Stall(which, time) => {
            proxy(which, servers).stall();
            lasts(time);
        }
        ServerFault::Full(time) => {
            let info = servers.redis.cli(&["info", "memory"]);
            let used = info.lines().find_map(|line| line.trim().strip_prefix("used_memory:")).expect("it says");
            servers.redis.config_set("maxmemory", used);
            lasts(time);
            servers.redis.config_set("maxmemory", "0");
        }
    }
    servers.heal();
}

fn proxy(which: Which, servers: &Servers) -> &crate::support::servers::Proxy {
    match which {
        Which::Redis => &servers.to_redis,
        Which::Mongo => &servers.to_mongo,
    }
}

/// A fault has a duration.
fn lasts(time: Duration) {
    thread::sleep(time);
}
