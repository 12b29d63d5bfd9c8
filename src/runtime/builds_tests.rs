//! Which builds are there, by beats that a test makes up.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::*;
use crate::backend::NodeInfo;

fn member(build: &str) -> Member {
    Member { id: 1, beat: 1, info: NodeInfo { build: Some(build.into()), ..NodeInfo::default() } }
}

#[tokio::test]
async fn a_fingerprint_tells_programs_started_as_different_things_apart() {
    let first = fingerprint("1".into(), vec!["b", "a"]).await;
    assert_eq!(first, fingerprint("1".into(), vec!["a", "b"]).await);
    assert_ne!(first, fingerprint("2".into(), vec!["a", "b"]).await);
    assert_ne!(first, fingerprint("1".into(), vec!["a", "bc"]).await);
}

#[tokio::test]
async fn that_no_other_build_is_there_is_said_only_by_a_beat_sent_after_the_question() {
    let (builds, looked) = (Arc::new(Builds::default()), Arc::new(Notify::new()));
    let before = Instant::now();
    builds.see(&[member("old")], before);
    let ask = || {
        let (builds, looked) = (builds.clone(), looked.clone());
        tokio::spawn(async move { builds.others_live(|| looked.notify_one()).await })
    };
    let asked = ask();
    looked.notified().await;
    // This one was on its way already: another build may have come since.
    builds.see(&[member("old")], before);
    looked.notified().await;
    builds.see(&[member("old"), member("new")], Instant::now());
    assert!(asked.await.unwrap());
    // And that another is there needs no asking.
    assert!(ask().await.unwrap());
    builds.see(&[member("old")], Instant::now());
    let asked = ask();
    looked.notified().await;
    builds.see(&[member("old")], Instant::now() + Duration::from_secs(1));
    assert!(!asked.await.unwrap());
}

#[test]
fn what_is_declined_is_so_until_other_builds_are_there() {
    let builds = Builds::default();
    builds.see(&[member("old"), member("new")], Instant::now());
    let mut changes = builds.follow();
    changes.mark_unchanged();
    assert!(builds.decline(3) && builds.decline(1) && !builds.decline(3));
    builds.see(&[member("new"), member("old")], Instant::now());
    assert!(builds.declined() == [1, 3] && !changes.has_changed().unwrap());
    builds.see(&[member("old")], Instant::now());
    assert!(builds.declined().is_empty() && changes.has_changed().unwrap());
}
