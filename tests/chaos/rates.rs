//! What a master of Redis that stands still takes from the partitions of the others: how many requests are
//! answered there before and meanwhile.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::Talk,
    command::Command,
    fault::Round,
    killer::{Cast, Played},
    script::Task,
    servers::owners,
    support::Random,
    takeover::{PARTITIONS, Prober},
};

/// A partition is asked so often.
const PACE: Duration = Duration::from_millis(150);
/// How long it is counted before.
const BEFORE: Duration = Duration::from_secs(4);
/// What belongs to the stalled master's partitions is cut off from this on: it is about those of the others.
const SETTLES: Duration = Duration::from_millis(200);

/// Requests that the other masters' partitions answered, a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) before: f64,
    pub(crate) during: f64,
    /// How many partitions they are.
    pub(crate) partitions: usize,
}

impl Rates {
    /// What stayed of it: 1 when nothing was taken.
    pub(crate) fn kept(&self) -> f64 {
        self.during / self.before.max(f64::MIN_POSITIVE)
    }
}

/// What is counted.
struct Count {
    answered: Vec<AtomicU32>,
    over: AtomicBool,
}

/// Lets one master stand still, and counts.
pub(crate) fn of_a_stall(round: Round, random: &mut Random, cast: &mut Cast<'_, '_>) -> Played {
    let fault = round.server.expect("a master stands still");
    let owner = owners(cast.servers.shards().expect("there are several masters"));
    // The very choice that the fault will make.
    let stalled = random.clone().below(3) as usize;
    let count = Count { answered: (0..PARTITIONS).map(|_| AtomicU32::new(0)).collect(), over: AtomicBool::new(false) };
    let (servers, prober) = (&mut *cast.servers, cast.prober);
    let others = |of: &Count| -> u32 {
        let mine = of.answered.iter().zip(&owner).filter(|(_, owner)| **owner != stalled);
        mine.map(|(answered, _)| answered.load(Ordering::SeqCst)).sum()
    };
    thread::scope(|scope| {
        for partition in 0..PARTITIONS {
            let (count, stage, history) = (&count, cast.stage, cast.history);
            let mut talk = Talk::new(stage, history, u64::from(partition));
            let number = prober.another();
            scope.spawn(move || ask(partition, number, prober, &mut talk, count));
        }
        let rate = |time: Duration| {
            let (began, first) = (Instant::now(), others(&count));
            thread::sleep(time);
            f64::from(others(&count) - first) / began.elapsed().as_secs_f64()
        };
        let before = rate(BEFORE);
        let meanwhile = scope.spawn(|| servers.suffer(fault, random));
        thread::sleep(SETTLES);
        let during = rate(fault.lasts.saturating_sub(SETTLES * 2));
        count.over.store(true, Ordering::SeqCst);
        let suffered = meanwhile.join().expect("it says why it failed");
        let partitions = owner.iter().filter(|owner| **owner != stalled).count();
        let rates = Rates { before, during, partitions };
        println!("       {rates:?}: {:.0} %", rates.kept() * 100.0);
        Played { suffered, rates: Some(rates), ..Played::default() }
    })
}

/// Tells an account of the partition one thing after the other.
fn ask(partition: u16, number: u64, prober: &Prober<'_>, talk: &mut Talk<'_>, count: &Count) {
    let mut due = Instant::now();
    for turn in 0.. {
        if count.over.load(Ordering::SeqCst) {
            return;
        }
        let mark = format!("s{partition}-{}", number * 10_000 + turn);
        if talk.tell(&Task::of(prober.account(partition), Command::Note { mark })).is_some() {
            count.answered[usize::from(partition)].fetch_add(1, Ordering::SeqCst);
        }
        due = (due + PACE).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}
