//! `greenroom store upgrade` and `store check`, while no node runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use fred::{interfaces::ClientLike, types::Value};
use greenroom::{
    Error,
    backend::{
        Backend,
        cluster::{Cluster, Options, Upgrade},
        embedded,
    },
    testing::Which,
};

use crate::{
    actors::KINDS,
    expected::Expected,
    fixture::{self, command, connect},
    handled::{handled, remembered},
    old::Old,
    snapshot::{same, snapshot},
};

/// The servers that a store of this many partitions is put into.
pub(crate) fn options(which: Which, expected: &Expected) -> Options {
    let embedded = embedded::Options { partitions: expected.partitions, mailbox_bytes: 64 << 20 };
    Options { lease: Duration::from_millis(500), ..which.cluster(&embedded).unwrap() }
}

/// Runs a test against every cluster store.
pub(crate) fn everywhere(test: impl AsyncFn(Which)) {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        actix::System::new().block_on(test(which));
    }
}

/// Everything adds up, and every partition has this format.
fn checked(options: &Options, expected: &Expected, format: &str) -> u64 {
    let found = Cluster::check(options.clone()).unwrap();
    assert!(found.mismatches.is_empty(), "{:?}", found.mismatches);
    for partition in &found.partitions {
        assert_eq!(partition.format, format, "{partition:?}");
        assert_eq!(partition.outbox as usize, expected.outbox[&partition.partition].len(), "{partition:?}");
        assert_eq!(partition.epoch, expected.leases[&partition.partition].1, "{partition:?}");
    }
    found.half_done
}

/// An upgrade that dies after every call, and is begun again; how often.
fn upgrade_dying(options: &Options) -> usize {
    let mut deaths = 0;
    loop {
        let calls = AtomicU64::new(0);
        let step = Arc::new(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(Error::new("dies here").code("died")),
        });
        match Cluster::upgrade(options.clone(), Upgrade { batch: 40, step }) {
            Ok(_) => return deaths,
            Err(error) => assert!(error.has_code("died"), "{error}"),
        }
        deaths += 1;
    }
}

async fn upgraded(which: Which) {
    let expected = fixture::expected("format1");
    let options = options(which, &expected);
    fixture::restore("format1", &options).await;
    let refused = Cluster::inspect(options.clone()).map(drop).unwrap_err();
    assert!(refused.has_code("old_format") && refused.to_string().contains("store upgrade"), "{refused}");
    let half_done = checked(&options, &expected, "1");
    assert!(half_done > 0);
    let deaths = upgrade_dying(&options);
    assert!(deaths > 16, "{deaths}");
    assert_eq!(checked(&options, &expected, "2"), half_done);
    let again = Cluster::upgrade(options.clone(), Upgrade::default()).unwrap();
    assert!((again.from, again.partitions.len()) == (2, 0), "{again:?}");
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    assert!(backend.audit().await.unwrap().balanced);
    same(&snapshot(&backend, &expected).await, &expected.snapshot);
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
    for (kind, stateful) in KINDS {
        backend.declare(kind, stateful, &[]).await.unwrap();
    }
    remembered(&backend, &expected).await;
    drop(backend);
    handled(&options, &expected).await;
    assert_eq!(Cluster::check(options.clone()).unwrap().half_done, 0);
}

#[test]
fn an_upgrade_that_dies_after_every_call_leaves_the_store_as_it_was_promised() {
    everywhere(upgraded);
}

/// All that a partition has.
async fn contents(old: &Old, partition: u16) -> Vec<Value> {
    let mut found = Vec::new();
    let slabs = (0..12).flat_map(|b| ["mail", "out", "results"].map(|name| format!(":{name}:{b}")));
    let names = [
        "head",
        "old",
        "old:ended",
        "mails",
        "outs",
        "sent",
        "seen",
        "deferred",
        "timers",
        "parked",
        "attempts",
        "ended",
        "dead",
        "deadline",
        "journaled",
        "kept",
        "crowd",
        "idem",
        "idemdue",
        "fences",
        "fencedue",
        "moved",
        "arrived",
        "counts",
        "lease",
        "mailbox",
        "outbox",
    ];
    for name in names.iter().map(|name| format!(":{name}")).chain(slabs) {
        found.push(command(&old.redis, "DUMP", vec![old.key(partition, &name).into()]).await);
    }
    found
}

async fn asleep(which: Which) {
    let expected = fixture::expected("format1");
    let options = options(which, &expected);
    fixture::restore("format1", &options).await;
    let old = Old::start(&options).await;
    // It owns partitions 0 and 1, and falls asleep in the middle of the upgrade of them.
    let seals = Arc::new(AtomicU64::new(0));
    let step = Arc::new({
        let seals = seals.clone();
        move |partition| match (partition, seals.fetch_add(1, Ordering::Relaxed)) {
            (3, _) => Err(Error::new("dies here")),
            _ => Ok(()),
        }
    });
    Cluster::upgrade(options.clone(), Upgrade { step, ..Upgrade::default() }).unwrap_err();
    assert_eq!(Cluster::check(options.clone()).unwrap().partitions[3].format, "1");
    Cluster::upgrade(options.clone(), Upgrade::default()).unwrap();
    let envelope = serde_json::to_vec(&crate::handled::envelope("tally/k0", "7")).unwrap();
    for partition in 0..expected.partitions {
        let before = contents(&old, partition).await;
        let epoch = expected.leases[&partition].1.to_string();
        let epoch = epoch.as_str();
        let calls: [(&str, &[&str]); 19] = [
            ("append", &["4", "1000000000", "4", "", ""]),
            ("receive", &["4", "9", "1", "1", ""]),
            ("commit", &[epoch, "9000", ""]),
            ("redo", &[epoch]),
            ("begin", &[epoch, "3"]),
            ("cancel", &[epoch, "{}", "3"]),
            ("refuse", &[epoch, "1000", "5", "ann", "6"]),
            ("redrive", &["4", "4", "1", "32"]),
            ("discard", &["4", "1", "32"]),
            ("expire", &["0", "0"]),
            ("acquire", &["4", "99", "4"]),
            ("release", &[epoch]),
            ("fence", &[epoch, "4"]),
            ("arrive", &[epoch, "0", "1"]),
            ("depart", &[epoch, "3", "1-5"]),
            ("keep", &[epoch, "0"]),
            ("unkeep", &[epoch, "idem-tally/k0"]),
            ("refence", &[epoch, "import", "99", "99"]),
            ("settle", &[epoch, "99", "1"]),
        ];
        for (name, args) in calls {
            let mut args: Vec<Value> = args.iter().map(|arg| Value::from(*arg)).collect();
            if matches!(name, "append" | "receive") {
                args.push(Value::Bytes(envelope.clone().into()));
            }
            let refused = old.call(partition, name, args).await.unwrap_err();
            assert!(refused.contains("WRONGTYPE"), "{name}: {refused}");
        }
        assert_eq!(contents(&old, partition).await, before, "{partition}");
    }
    let meta = format!("{}:{{meta}}", options.prefix);
    let mark = command(&old.redis, "HGET", vec![meta.as_str().into(), "resizing".into()]).await;
    assert!(mark.as_string().unwrap().starts_with("format 2"), "an older build takes it for a resize: {mark:?}");
    command(&old.redis, "HSET", vec![meta.into(), "format".into(), "3".into()]).await;
    let newer = Cluster::open(options).map(drop).unwrap_err();
    assert!(newer.has_code("newer_format") && newer.to_string().contains("format 3"), "{newer}");
    old.redis.quit().await.unwrap();
}

#[test]
fn functions_of_an_older_build_are_refused_before_they_write_anything() {
    everywhere(asleep);
}

async fn served(which: Which) {
    let expected = fixture::expected("format1");
    let options = options(which, &expected);
    fixture::restore("format1", &options).await;
    let redis = connect(&options.redis).await;
    let (members, meta) = (format!("{}:{{nodes}}:members", options.prefix), format!("{}:{{meta}}", options.prefix));
    let stop = Arc::new(AtomicBool::new(false));
    let beats = tokio::spawn({
        let (redis, stop) = (redis.clone(), stop.clone());
        async move {
            for beat in 5_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let text = format!(r#"{beat} {{"listen":"http://old:8080","pid":7,"version":"0.1.0","since":5}}"#);
                command(&redis, "HSET", vec![members.as_str().into(), "8".into(), text.into()]).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let before = command(&redis, "HGETALL", vec![meta.as_str().into()]).await;
    for upgrade in [true, false] {
        let options = options.clone();
        let refused = tokio::task::spawn_blocking(move || match upgrade {
            true => Cluster::upgrade(options, Upgrade::default()).map(drop).unwrap_err(),
            false => Cluster::open(options).map(drop).unwrap_err(),
        });
        let refused = refused.await.unwrap();
        assert!(refused.has_code("old_nodes"), "{refused}");
        assert!(refused.to_string().contains("node 8 at http://old:8080 (process 7, version 0.1.0)"), "{refused}");
        assert_eq!(command(&redis, "HGETALL", vec![meta.as_str().into()]).await, before);
    }
    stop.store(true, Ordering::Relaxed);
    beats.await.unwrap();
    checked(&options, &expected, "1");
    redis.quit().await.unwrap();
}

#[test]
fn a_store_that_an_older_build_serves_is_left_alone() {
    everywhere(served);
}

async fn resizing(which: Which) {
    let expected = fixture::expected("format1-resizing");
    let options = options(which, &expected);
    fixture::restore("format1-resizing", &options).await;
    let refusals = [
        Cluster::open(options.clone()).map(drop).unwrap_err(),
        Cluster::inspect(options.clone()).map(drop).unwrap_err(),
        Cluster::upgrade(options.clone(), Upgrade::default()).map(drop).unwrap_err(),
    ];
    for refused in refusals {
        assert!(refused.has_code("resizing"), "{refused}");
        let says = "finish that with the build that began it (`greenroom partitions resize 4`)";
        assert!(refused.to_string().contains(says), "{refused}");
    }
    let found = Cluster::check(options).unwrap();
    assert_eq!((found.format, found.resizing), (1, Some(4)));
    assert!(found.mismatches.is_empty(), "{:?}", found.mismatches);
}

#[test]
fn a_store_that_is_being_resized_is_resized_first() {
    everywhere(resizing);
}
