//! Other builds among the members, and which partitions are for them: while a rolling deploy lasts, what one build
//! cannot read another may.
//!
//! A message that this build cannot read (a kind, a command, a state or a journal of another one) is left where it
//! is in its order, with no attempt counted, and its partition is declined; the [assignment](super::assign) gives
//! that to a node of another build, which handles it. When no other build is there any more it is given up.
//!
//! Invariant: nothing is given up for being unreadable unless a beat that was sent after it was read found members
//! of this build only.

use std::{
    collections::BTreeSet,
    io::Read,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;
use xxhash_rust::xxh3::Xxh3;

use crate::backend::Member;

/// What is told from others by its fingerprint: the program itself, the version it gives itself, and its kinds.
pub(super) async fn fingerprint(version: String, mut kinds: Vec<&'static str>) -> String {
    kinds.sort_unstable();
    let digest = tokio::task::spawn_blocking(move || {
        let mut digest = Xxh3::new();
        // A program that cannot be read is known by the rest.
        let _ = add_program(&mut digest);
        digest.update(version.as_bytes());
        kinds.iter().for_each(|kind| digest.update(&[b"\0", kind.as_bytes()].concat()));
        digest.digest()
    });
    digest.await.map(|digest| format!("{digest:016x}")).unwrap_or_default()
}

fn add_program(digest: &mut Xxh3) -> std::io::Result<()> {
    // What runs: the file of its path may be another one by now.
    let running = std::fs::File::open("/proc/self/exe");
    let mut file = running.or_else(|_| std::fs::File::open(std::env::current_exe()?))?;
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(()),
            read => digest.update(&part[..read]),
        }
    }
}

/// The builds of the members, and what is declined because of them.
#[derive(Default)]
pub(crate) struct Builds {
    there: watch::Sender<BTreeSet<Option<String>>>,
    /// When the last successful beat was sent.
    beat: watch::Sender<Option<Instant>>,
    declined: Mutex<BTreeSet<u16>>,
}

impl Builds {
    /// Notes who is there, as a beat found that was sent then.
    pub(super) fn see(&self, members: &[Member], sent: Instant) {
        let now: BTreeSet<_> = members.iter().map(|member| member.info.build.clone()).collect();
        self.there.send_if_modified(|there| {
            let changed = *there != now;
            if changed {
                // What was declined is tried again: by now another node may be the one to decline it.
                self.declining().clear();
                *there = now;
            }
            changed
        });
        self.beat.send_replace(Some(sent));
    }

    /// Tells when another set of builds is there.
    pub(super) fn follow(&self) -> watch::Receiver<BTreeSet<Option<String>>> {
        self.there.subscribe()
    }

    fn are_several(&self) -> bool {
        self.there.borrow().len() > 1
    }

    /// Whether another build than this one is there: as of the last beat if it is, else as of one that is sent from
    /// now on. `look` asks for one.
    pub(super) async fn others_live(&self, look: impl Fn()) -> bool {
        let asked = Instant::now();
        let mut beat = self.beat.subscribe();
        loop {
            let sent = *beat.borrow_and_update();
            if self.are_several() || sent.is_some_and(|sent| sent >= asked) {
                return self.are_several();
            }
            look();
            if beat.changed().await.is_err() {
                return self.are_several();
            }
        }
    }

    fn declining(&self) -> MutexGuard<'_, BTreeSet<u16>> {
        self.declined.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is for another build; whether that is new.
    pub(super) fn decline(&self, partition: u16) -> bool {
        self.declining().insert(partition)
    }

    /// All partitions that are.
    pub(super) fn declined(&self) -> Vec<u16> {
        self.declining().iter().copied().collect()
    }
}

#[cfg(test)]
#[path = "builds_tests.rs"]
mod tests;
