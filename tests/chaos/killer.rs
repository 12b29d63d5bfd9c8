//! The killer: makes one round of faults after another under load, heals, and waits for progress
//! before the next.

use std::{collections::BTreeMap, thread, time::Duration, time::Instant};

use crate::{
    client::Talk,
    command::Command,
    fault::{Kind, NodeFault, Round, Schedule, ServerFault},
    history::{History, now},
    nodes::Nodes,
    rates::{self, Rates},
    scenario::Scenario,
    script::Task,
    servers::{Loss, Servers, Suffered},
    stage::{Curtain, Stage},
    support::Random,
    takeover::{Prober, Takeover},
};

/// How far ahead a clock is set, in milliseconds: further than results are kept.
const AHEAD: i64 = 26 * 3_600_000;
/// How many messages the largest command sends, and to how many accounts.
const OUTBOX: u32 = 5_000;
const OVER: u32 = 300;
/// So many actors send them at once.
const SENDERS: u64 = 3;

/// What was done.
#[derive(Default)]
pub(crate) struct Deeds {
    pub(crate) rounds: u32,
    /// How often each kind of fault.
    pub(crate) faults: BTreeMap<String, u32>,
    pub(crate) takeovers: Vec<Takeover>,
    /// What one shard that stood still took from the others.
    pub(crate) stalls: Vec<Rates>,
    /// When Redis forgot something.
    pub(crate) losses: Vec<Loss>,
    /// What no fault explains.
    pub(crate) surprises: Vec<String>,
    /// When each round began, and when every node was ready again.
    pub(crate) times: Vec<Trouble>,
}

/// A time in which something was wrong, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// All that takes part in a round.
pub(crate) struct Cast<'a, 'n> {
    pub(crate) servers: &'a mut Servers,
    pub(crate) nodes: &'a mut Nodes<'n>,
    pub(crate) prober: &'a Prober<'a>,
    pub(crate) stage: &'a Stage,
    pub(crate) history: &'a History,
    /// How many rounds had a large outbox.
    bulk: u64,
}

/// What came of a round.
#[derive(Default)]
pub(crate) struct Played {
    pub(crate) takeovers: Vec<Result<Takeover, String>>,
    pub(crate) suffered: Suffered,
    pub(crate) rates: Option<Rates>,
}

/// Makes faults for so long.
pub(crate) fn run(
    seed: u64,
    (scenario, lasting): (&Scenario, Duration),
    servers: &mut Servers,
    nodes: &mut Nodes<'_>,
    stage: &Stage,
    history: &History,
) -> Deeds {
    let _curtain = Curtain(stage);
    let mut schedule = Schedule::of(seed, scenario);
    let mut random = Random::seeded(seed ^ 0x4b11);
    let prober = Prober::new(stage, history);
    let mut cast = Cast { servers, nodes, prober: &prober, stage, history, bulk: 0 };
    let mut deeds = Deeds::default();
    let began = Instant::now();
    let mut end = stage.hear(100);
    while end.is_ok() && began.elapsed() < lasting {
        let round = schedule.next();
        println!("{:>5.1}s round {}: {round}", began.elapsed().as_secs_f64(), deeds.rounds);
        let from = now();
        cast.bulk += u64::from(round.outbox);
        let played = play(round, &mut random, &mut cast);
        end = match deeds.note(round, played) {
            true => cast.nodes.recover(),
            false => Err("a partition is not served".to_owned()),
        };
        deeds.times.push(Trouble { from, to: now() });
        end = end.and_then(|()| stage.hear(round.promises));
    }
    cast.servers.heal();
    // What does not come back is looked at as it is.
    deeds.surprises.extend(end.and_then(|()| cast.nodes.recover()).err());
    deeds
}

impl Deeds {
    /// Notes a round; whether everything was served afterwards.
    fn note(&mut self, round: Round, played: Played) -> bool {
        let node = round.node.map(|node| node.kind().to_owned());
        let server = round.server.map(|fault| fault.kind.to_string());
        let outbox = round.outbox.then(|| format!("{SENDERS} commands that send {OUTBOX} messages each"));
        for kind in [node, server, outbox].into_iter().flatten() {
            *self.faults.entry(kind).or_default() += 1;
        }
        self.rounds += 1;
        let before = self.surprises.len();
        for takeover in played.takeovers {
            match takeover {
                Ok(takeover) => self.takeovers.push(takeover),
                Err(why) => self.surprises.push(why),
            }
        }
        let served = self.surprises.len() == before;
        self.stalls.extend(played.rates);
        if let Some(loss) = played.suffered.loss {
            println!("       Redis forgot what it was told from {} to {}", loss.from, loss.to);
            self.losses.push(loss);
        }
        self.surprises.extend(played.suffered.surprises);
        served
    }
}

/// One round. A node's fault begins somewhere within the server's.
fn play(round: Round, random: &mut Random, cast: &mut Cast<'_, '_>) -> Played {
    let slot = random.below(cast.nodes.len() as u64) as usize;
    let offset = Duration::from_millis(random.below(1_500));
    let mut of_servers = Random::seeded(random.next());
    let alone = round.server.is_none();
    let stalled = matches!(round.server, Some(ServerFault { kind: Kind::StallShard, .. }));
    if stalled && round.node.is_none() && !round.outbox {
        return rates::of_a_stall(round, &mut of_servers, cast);
    }
    let (servers, nodes, prober) = (&mut *cast.servers, &mut *cast.nodes, cast.prober);
    let (stage, history, bulk) = (cast.stage, cast.history, cast.bulk);
    thread::scope(|scope| {
        let server = round.server.map(|fault| scope.spawn(move || servers.suffer(fault, &mut of_servers)));
        if round.outbox {
            for sender in 0..SENDERS {
                scope.spawn(move || outbox(bulk, sender, stage, history));
            }
        }
        if (!alone || round.outbox) && round.node.is_some() {
            lasts(offset);
        }
        let mut played = Played::default();
        match round.node {
            None => {}
            Some(NodeFault::Kill) => {
                match alone && !round.outbox {
                    true => played.takeovers = prober.measure(slot, nodes),
                    false => nodes.kill(slot),
                }
                nodes.fill(slot);
            }
            Some(NodeFault::Pause(time)) => {
                nodes.pause(slot);
                lasts(time);
                nodes.resume(slot);
            }
            Some(NodeFault::Ahead(time)) => {
                nodes.set_clock(slot, AHEAD);
                lasts(time);
                nodes.kill(slot);
                nodes.fill(slot);
            }
            Some(NodeFault::Leave) => {
                nodes.leave(slot);
                nodes.fill(slot);
            }
        }
        if let Some(server) = server {
            played.suffered = server.join().expect("it says why it failed");
        }
        played
    })
}

/// Lets one actor send very many messages with one command.
fn outbox(number: u64, sender: u64, stage: &Stage, history: &History) {
    let command = Command::Scatter { mark: format!("b{sender}-{number}"), number: OUTBOX, over: OVER };
    Talk::new(stage, history, number ^ sender << 32).tell(&Task::of(&format!("bulk-{sender}"), command));
}

/// A fault has a duration.
fn lasts(time: Duration) {
    thread::sleep(time);
}
