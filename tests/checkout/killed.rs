//! A real process dies the first time it passes a boundary, another one the second time, and so on until
//! one lives to its end; so for every boundary. None is left out, none is left to chance. Each is started
//! again, and the order ends as it should, with every vendor's effect once.

use std::{collections::BTreeSet, os::unix::process::ExitStatusExt, path::Path, sync::Mutex, thread};

use greenroom::testing::{Point, Which};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{build, server::Setup};

/// Stores that are tried at once, each with its own orders.
const SLOTS: usize = 8;
/// The first life dies.
const ONCE: usize = 1;
/// So does the second, at the same place, while it recovers.
const AND_RECOVERING: usize = 2;
/// A line of the vendors' file.
#[derive(Deserialize)]
struct Call {
    what: String,
    key: String,
}

struct Scenario {
    name: &'static str,
    /// Each vendor call that has one effect.
    effects: &'static [&'static str],
    /// How the order ends.
    end: fn(&Value),
    /// How often it passes a boundary, at the least.
    passes: &'static [(Point, u64)],
}

const APPROVED: Scenario = Scenario {
    name: "approved",
    effects: &["bank.charge", "bank.pay_out", "mail.approval", "mail.send", "model.risk"],
    end: |end| {
        assert_eq!((&end["status"], &end["stock"]), (&json!("completed"), &json!(0)), "{end}");
        assert!(end["order"]["payout"].is_string(), "{end}");
    },
    // The stock is filled and asked, the order waits, goes on and ends, a mail is sent.
    passes: &[
        (Point::Accepted, 2),
        (Point::Read, 6),
        (Point::Journal, 7),
        (Point::Journaled, 7),
        (Point::Deferred, 1),
        (Point::Handled, 5),
        (Point::Committed, 4),
        (Point::Delivered, 5),
    ],
};

const REFUSED: Scenario = Scenario {
    name: "refused",
    effects: &["bank.charge", "bank.refund", "model.risk"],
    end: |end| {
        assert_eq!((&end["status"], &end["code"]), (&json!("failed"), &json!("fraud")), "{end}");
        assert_eq!((&end["stock"], &end["order"]), (&json!(1), &Value::Null), "{end}");
    },
    // The stock is filled, asked twice, and answers twice.
    passes: &[
        (Point::Accepted, 2),
        (Point::Read, 6),
        (Point::Journal, 7),
        (Point::Journaled, 7),
        (Point::Handled, 4),
        (Point::Committed, 4),
        (Point::Delivered, 4),
    ],
};

/// What is still to be killed: for each boundary the next time it is passed, until nobody passes it so often.
struct Open(Mutex<Vec<(Point, u64, bool)>>);

impl Open {
    fn new() -> Self {
        Self(Mutex::new(Point::ALL.map(|point| (point, 0, false)).to_vec()))
    }

    fn next(&self) -> Option<(Point, u64)> {
        let mut points = self.0.lock().unwrap();
        let (point, nth, _) = points.iter_mut().filter(|(_, _, over)| !over).min_by_key(|(_, nth, _)| *nth)?;
        *nth += 1;
        Some((*point, *nth))
    }

    /// A boundary was not passed so often.
    fn over(&self, point: Point) {
        self.0.lock().unwrap().iter_mut().filter(|(other, ..)| *other == point).for_each(|(.., over)| *over = true);
    }
}

/// Kills at every boundary of a scenario, `most` lives of an order one after the other, on stores that `setup`
/// makes in a directory each.
fn everywhere(scenario: &Scenario, most: usize, setup: impl Fn(&Path) -> Setup + Sync) {
    let program = build::example("checkout-killed");
    let (open, killed) = (Open::new(), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| {
                let dir = tempfile::tempdir().expect("a directory");
                // One thread runs all actors: how often they pass a boundary is always the same.
                let setup = setup(&dir.path().join("data")).program(&program).set("runtime", "arbiters", "1");
                while let Some((point, nth)) = open.next() {
                    if killed_at(scenario, most, point, nth, &setup, dir.path()) {
                        killed.lock().unwrap().push((point, nth));
                    } else {
                        open.over(point);
                    }
                }
            });
        }
    });
    let killed = killed.into_inner().unwrap();
    let passed = Point::ALL.map(|point| (point, killed.iter().filter(|(other, _)| *other == point).count() as u64));
    println!("{}: killed at {} boundaries: {passed:?}", scenario.name, killed.len());
    for (point, least) in scenario.passes {
        let times = passed.iter().find(|(other, _)| other == point).map_or(0, |(_, times)| *times);
        assert!(times >= *least, "killed only {times} times at {point:?}: {passed:?}");
        assert!((1..=times).all(|nth| killed.contains(&(*point, nth))), "one was left out: {killed:?}");
    }
}

/// Lets lives of one order die the `nth` time they pass a boundary, each counted anew; whether the first did.
fn killed_at(scenario: &Scenario, most: usize, point: Point, nth: u64, setup: &Setup, dir: &Path) -> bool {
    let order = format!("o-{point:?}-{nth}");
    let file = dir.join(format!("{order}.jsonl"));
    let (point, nth) = (format!("{point:?}"), nth.to_string());
    let mut deaths = 0;
    let end = loop {
        let mut arguments = vec![scenario.name, &order, file.to_str().expect("a name"), &point, &nth];
        if deaths == most {
            arguments.truncate(3);
        }
        let output = setup.run(&arguments);
        if output.status.signal() == Some(9) {
            deaths += 1;
            continue;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{point} {nth}, after {deaths} deaths: {}: {said}", output.status);
        break serde_json::from_slice::<Value>(&output.stdout).expect("it says how it ended");
    };
    let context = || format!("{point} {nth}, after {deaths} deaths: {end}");
    (scenario.end)(&end);
    assert_eq!(
        (&end["balanced"], &end["in_flight"], &end["dead"]),
        (&json!(true), &json!(0), &json!(0)),
        "{}",
        context()
    );
    let text = std::fs::read_to_string(&file).expect("the vendors were called");
    let calls: Vec<Call> = text.lines().map(|line| serde_json::from_str(line).expect("a call")).collect();
    let effects: BTreeSet<(&str, &str)> = calls.iter().map(|call| (&*call.what, &*call.key)).collect();
    let took: Vec<&str> = effects.iter().map(|(what, _)| *what).collect();
    assert_eq!(took, scenario.effects, "one effect each: {}", context());
    let keys: BTreeSet<&str> = effects.iter().map(|(_, key)| *key).collect();
    assert_eq!(keys.len(), effects.len(), "no key is of two steps: {}", context());
    // One thing runs at a time here, so a death repeats one call at the most: that which was not recorded.
    assert!(calls.len() <= effects.len() + deaths, "{text}: {}", context());
    deaths > 0
}

/// On a local file.
fn embedded(data: &Path) -> Setup {
    Setup::on(data).embedded().set("store", "data", &data.display().to_string()).set("store", "partitions", "4")
}

/// On Redis and MongoDB, under names of its own.
fn cluster(data: &Path) -> Setup {
    let options = Which::Redis.cluster(&Default::default()).expect("servers");
    let setup = Setup::on(data).embedded().set("store", "kind", "cluster").set("store", "partitions", "4");
    let setup = setup.set("store", "redis", &options.redis).set("store", "mongo", &options.mongo);
    let setup = setup.set("store", "prefix", &options.prefix).set("store", "database", &options.database);
    // The next life waits this long for the one that was killed.
    setup.set("store", "lease", "500ms")
}

#[test]
fn an_approved_order_on_a_file_ends_once_wherever_it_is_killed() {
    everywhere(&APPROVED, AND_RECOVERING, embedded);
}

#[test]
fn a_refused_order_on_a_file_is_undone_once_wherever_it_is_killed() {
    everywhere(&REFUSED, AND_RECOVERING, embedded);
}

#[test]
fn an_approved_order_on_a_cluster_ends_once_wherever_it_is_killed() {
    everywhere(&APPROVED, ONCE, cluster);
}

#[test]
fn a_refused_order_on_a_cluster_is_undone_once_wherever_it_is_killed() {
    everywhere(&REFUSED, ONCE, cluster);
}
