//! Schedules on three real nodes that are killed, paused beyond their lease, and whose clocks are set forward
//! and back. Afterwards every slot that there was, by a list made without Greenroom, took effect once.
//!
//! ```text
//! main    the program: two hundred schedules, of which each rings a bell that writes down its slots
//! plan    what they are, declared and said a second time
//! ```

pub(crate) mod plan;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use greenroom::testing::Which;
use jiff::{Timestamp, tz::TimeZone};
use rustix::process::Signal;

use self::plan::{BELLS, Planned};
use crate::support::{Random, Server, build, eventually, server::Setup};

const NODES: usize = 3;
const LEASE: Duration = Duration::from_secs(1);
/// How far a clock is set, at most, in milliseconds.
const FAR: u64 = 20_000;

/// For which slots each bell rang, in milliseconds since the Unix epoch.
type Rung = BTreeMap<String, Vec<i64>>;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Nodes, and the servers under them.
struct Tower {
    setup: Setup,
    nodes: Vec<Server>,
}

impl Tower {
    fn build(data: &std::path::Path) -> Self {
        let options = Which::Redis.cluster(&Default::default()).expect("servers");
        let setup = Setup::on(data).embedded().program(&build::example("bells"));
        let setup = setup.set("store", "kind", "cluster").set("store", "lease", &format!("{}ms", LEASE.as_millis()));
        let setup = setup.set("store", "redis", &options.redis).set("store", "mongo", &options.mongo);
        let setup = setup.set("store", "prefix", &options.prefix).set("store", "database", &options.database);
        let setup = setup.set("runtime", "arbiters", "1").set("gateway", "workers", "1");
        let nodes = (0..NODES).map(|_| setup.start()).collect();
        Self { setup, nodes }
    }

    fn rung(&self) -> Rung {
        // A node that cannot answer now is not the only one.
        eventually("a node that tells", || {
            let tell = |node: &Server| node.client().send("GET", "/bells", &[], None).ok();
            let answer = self.nodes.iter().filter_map(tell).find(|answer| answer.status == 200)?;
            serde_json::from_value(answer.json()).ok()
        })
    }

    fn count(&self) -> usize {
        self.rung().values().map(Vec::len).sum()
    }

    /// Something goes wrong with one of the nodes.
    fn trouble(&mut self, random: &mut Random, round: usize) {
        let slot = random.below(NODES as u64) as usize;
        let far = 2_000 + random.below(FAR - 2_000) as i64;
        let what = match round % 5 {
            0 | 3 => {
                let fresh = self.setup.spawn();
                std::mem::replace(&mut self.nodes[slot], fresh).kill();
                self.nodes[slot].wait_listening();
                "killed".to_owned()
            }
            1 => {
                self.nodes[slot].signal(Signal::STOP);
                // The others go on without it, and know.
                let others = self.count_without(slot);
                eventually("the others to ring on", || (self.count_without(slot) >= others + 60).then_some(()));
                self.nodes[slot].signal(Signal::CONT);
                "paused".to_owned()
            }
            of => {
                let by = if of == 2 { far } else { -far };
                self.nodes[slot].client().send("POST", &format!("/clock/{by}"), &[], None).expect("it is set");
                format!("set by {by} ms")
            }
        };
        println!("round {round}: node {slot} was {what}");
    }

    fn count_without(&self, slot: usize) -> usize {
        let other = &self.nodes[(slot + 1) % NODES];
        let rung: Rung = serde_json::from_value(other.client().get("/bells").expect(200).json()).expect("slots");
        rung.values().map(Vec::len).sum()
    }
}

/// The slots of a bell after a time and up to another, by looking at the clock of each second.
fn slots(bell: &Planned, after: i64, until: i64) -> Vec<i64> {
    let zone = TimeZone::get(bell.zone).expect("a zone");
    let seconds = after.div_euclid(1000) + 1..=until.div_euclid(1000);
    let wall = |second| zone.to_datetime(Timestamp::from_second(second).expect("a time"));
    seconds.filter(|second| (bell.rings)(*second, wall(*second))).map(|second| second * 1000).collect()
}

/// Lets so many things go wrong, decided by the seed.
pub(crate) fn run(seed: u64, rounds: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut tower = Tower::build(&dir.path().join("data"));
    let mut random = Random::seeded(seed);
    eventually("all schedules to be there", || {
        let page = tower.nodes[0].client().get("/admin/schedules?limit=1000").expect(200).json();
        (page["items"].as_array()?.len() == BELLS).then_some(())
    });
    let begun = now();
    for round in 0..rounds {
        let before = tower.count();
        eventually("bells to ring", || (tower.count() >= before + 40).then_some(()));
        tower.trouble(&mut random, round);
    }
    // Everybody is started again, and has the right time.
    tower.nodes.drain(..).for_each(Server::kill);
    tower.nodes.extend((0..NODES).map(|_| tower.setup.start()));
    let ended = now();
    let expected: Vec<(Planned, Vec<i64>)> = plan::bells()
        .into_iter()
        .map(|bell| {
            let slots = slots(&bell, begun, ended);
            (bell, slots)
        })
        .collect();
    let complete = |rung: &Rung| {
        expected.iter().all(|(bell, slots)| {
            let rung = rung.get(&bell.name).map_or(&[][..], Vec::as_slice);
            slots.iter().all(|slot| rung.contains(slot))
        })
    };
    let rung = eventually("every slot to take effect", || Some(tower.rung()).filter(complete));
    for (bell, _) in &expected {
        // Some ring only in every other minute.
        let Some(rung) = rung.get(&bell.name) else { continue };
        let mut sorted = rung.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), rung.len(), "{} rang twice: {rung:?}", bell.name);
        assert_eq!(&sorted, rung, "{} rang out of order", bell.name);
        // Also before the first and after the last that had to, it rang only when it was to.
        let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
        assert_eq!(sorted, self::slots(bell, first - 1, last), "{}: nothing else, and nothing left out", bell.name);
        assert!(last <= now() + FAR as i64 * rounds as i64, "{} rang too early", bell.name);
    }
    tower.nodes.drain(..).for_each(Server::kill);
    let (code, audit) = tower.setup.audit();
    assert_eq!((code, &audit["balanced"]), (Some(0), &true.into()), "{audit}");
    let all: usize = expected.iter().map(|(_, slots)| slots.len()).sum();
    println!(
        "{all} slots of {BELLS} schedules in {} s took effect once, over {rounds} troubles",
        (ended - begun) / 1000
    );
}
