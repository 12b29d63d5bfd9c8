//! Real processes, killed with SIGKILL at boundaries that a seed chooses, again and again: one on a file,
//! and three at once on Redis and MongoDB, where the others take over. Later lives are of a build with one
//! group more. Afterwards each group has what the shops sold, each event once, in the order of its key.
//!
//! A life is this very test program, told by its environment to play one.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use greenroom::{
    backend::{
        Backend,
        cluster::{Cluster, Options},
        embedded::{self, Embedded},
    },
    clock::Clock,
    prelude::*,
    runtime::{node::Start, settings::Settings},
    testing::{Point, Random, Which, kill_at},
};

use super::{Desk, SALES, Sell, Shop, group};

const PARTITIONS: u16 = 8;
/// The longest a life may take.
const PATIENCE: Duration = Duration::from_secs(60);
const SHOPS: usize = 3;
/// Lives of each shop that may die.
const LIVES: u64 = 4;

/// What a life is told.
const STORE: &str = "TOPIC_LIFE_STORE";
const SHOP: &str = "TOPIC_LIFE_SHOP";
const LIFE: &str = "TOPIC_LIFE_NUMBER";
const DOOM: &str = "TOPIC_LIFE_DOOM";

fn cluster(store: &str) -> Options {
    let names: Vec<&str> = store.split('|').collect();
    let options = Which::Redis.cluster(&embedded::Options { partitions: PARTITIONS, ..Default::default() }).unwrap();
    Options {
        redis: names[0].into(),
        mongo: names[1].into(),
        prefix: names[2].into(),
        database: names[2].into(),
        lease: Duration::from_millis(500),
        ..options
    }
}

/// Plays a life, when told to; else nothing.
#[test]
fn life() {
    let told = |name| std::env::var(name).ok();
    let (Some(store), Some(shop), Some(life)) = (told(STORE), told(SHOP), told(LIFE)) else { return };
    if let Some((point, nth)) = told(DOOM).as_deref().and_then(|doom| doom.split_once(' ')) {
        let point = Point::ALL.into_iter().find(|known| format!("{known:?}") == point).unwrap();
        kill_at(point, nth.parse().unwrap());
    }
    let backend: Arc<dyn Backend> = match store.strip_prefix("file ") {
        Some(path) => {
            let options = embedded::Options { partitions: PARTITIONS, ..Default::default() };
            Arc::new(Embedded::open(Path::new(path), options).unwrap())
        }
        None => Arc::new(Cluster::open(cluster(&store)).unwrap()),
    };
    let late = life.parse::<u64>().unwrap() > LIVES / 2;
    let mut features = vec![group("billing"), group("mail"), Feature::new(Shop).actor(Desk).topic(SALES)];
    features.extend(late.then(|| group("late")));
    actix::System::new().block_on(async {
        let settings = Settings { arbiters: 2, ..Settings::default() };
        let node = Node::start(Start { backend, features, settings, clock: Clock::System }).await.unwrap();
        let keys: Vec<String> = (0..3).map(|key| format!("{shop}{key}")).collect();
        for count in 1..=6 {
            node.ask(Shop::at(&*shop), Sell { keys: keys.clone(), count, small: count % 2 == 0 }).await.unwrap();
        }
        let groups = if late { &["billing", "mail", "late"][..] } else { &["billing", "mail"] };
        // Who has no build of its own that knows a group waits for nobody: another life sees to it.
        let begun = Instant::now();
        while !all_once(&node, &shop, groups).await {
            assert!(begun.elapsed() < PATIENCE, "{:?}", node.topic("sales").await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node.drain(Duration::from_secs(10)).await;
    });
}

/// Whether the groups have all that a shop sold. Never anything else, or twice, or out of order.
async fn all_once(node: &Node, shop: &str, groups: &[&str]) -> bool {
    let mut got: BTreeMap<(&str, String), Vec<u64>> = BTreeMap::new();
    for group in groups {
        for key in (0..3).map(|key| format!("{shop}{key}")) {
            got.insert(
                (group, key.clone()),
                node.state::<Desk>(&format!("{group}:{key}")).await.unwrap().unwrap_or_default(),
            );
        }
    }
    // Read after what was got, so it has all of that.
    let sold = node.state::<Shop>(shop).await.unwrap().unwrap_or_default();
    let mut all = true;
    for ((group, key), got) in got {
        let sold: Vec<u64> = sold.iter().filter(|(of, _)| *of == key).map(|(_, n)| *n).collect();
        assert!(sold.starts_with(&got), "{group} of {key}: sold {sold:?}, got {got:?}");
        all &= sold == got;
    }
    all
}

/// Lets a shop live and die; how often it died.
fn lives(store: &str, shop: &str, seed: u64) -> u32 {
    let mut random = Random::new(seed);
    let often = [Point::Read, Point::Activated, Point::Handled, Point::Committed, Point::Delivered, Point::Accepted];
    let mut deaths = 0;
    for life in 1..=LIVES + 1 {
        let point = *random.pick(&often).unwrap();
        let nth = 1 + random.below(if point == Point::Accepted { 6 } else { 60 });
        let mut process = Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "topic::killed::life", "--nocapture"]).env("RUST_BACKTRACE", "0");
        process.env(STORE, store).env(SHOP, shop).env(LIFE, life.to_string());
        if life <= LIVES {
            process.env(DOOM, format!("{point:?} {nth}"));
        }
        let output = process.output().unwrap();
        if output.status.signal() == Some(9) {
            deaths += 1;
            continue;
        }
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{shop} {life}: {point:?} {nth}: {}", String::from_utf8_lossy(&said));
    }
    deaths
}

fn seed() -> u64 {
    let seed = std::env::var("GREENROOM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(5);
    println!("GREENROOM_SEED={seed}");
    seed
}

#[test]
fn on_a_file_each_group_gets_each_event_once_however_often_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("file {}", dir.path().join("data").display());
    let deaths = lives(&store, "a", seed());
    assert!(deaths >= 2, "it died only {deaths} times");
}

#[test]
fn on_redis_each_group_gets_each_event_once_whoever_is_killed_and_takes_over() {
    let options = Which::Redis.cluster(&Default::default()).unwrap();
    let store = format!("{}|{}|{}", options.redis, options.mongo, options.prefix);
    let seed = seed();
    let deaths: Vec<u32> = std::thread::scope(|scope| {
        let store = &store;
        let shops: Vec<_> =
            (0..SHOPS).map(|n| scope.spawn(move || lives(store, &format!("s{n}-"), seed + 100 * n as u64))).collect();
        shops.into_iter().map(|shop| shop.join().unwrap()).collect()
    });
    assert!(deaths.iter().sum::<u32>() >= 4, "they died only {deaths:?} times");
}
