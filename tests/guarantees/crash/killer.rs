//! The killer: starts the process, lets the clients hear so many promises, kills it, starts it
//! again. Moments are counted in promises, not in time, so they fall where the work is.

use std::{
    path::Path,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Plan, client, history::History, setup};
use crate::support::{PATIENCE, Random, server::audit};

/// What clients and killer share: who lives now, and how much was promised.
pub(super) struct Stage {
    /// The number of the life and where it listens.
    life: Mutex<(u64, String)>,
    born: Condvar,
    promises: AtomicU64,
    heard: Condvar,
    waiting: Mutex<()>,
    /// No more orders are begun.
    pub(super) closed: AtomicBool,
}

impl Stage {
    /// Where the next life after `life` listens.
    pub(super) fn after(&self, life: u64) -> (u64, String) {
        let now = self.life.lock().unwrap();
        let (now, timeout) =
            self.born.wait_timeout_while(now, PATIENCE, |now| now.0 <= life).expect("no client panicked");
        assert!(!timeout.timed_out(), "nothing lives after life {life}");
        now.clone()
    }

    /// One more promise was heard.
    pub(super) fn promised(&self) {
        self.promises.fetch_add(1, Ordering::SeqCst);
        self.heard.notify_all();
    }

    fn publish(&self, base: &str) {
        let mut now = self.life.lock().unwrap();
        *now = (now.0 + 1, base.to_owned());
        self.born.notify_all();
    }

    /// Waits for `more` promises.
    fn hear(&self, more: u64) {
        let until = self.promises.load(Ordering::SeqCst) + more;
        let mut guard = self.waiting.lock().unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.promises.load(Ordering::SeqCst) < until {
            assert!(std::time::Instant::now() < deadline, "fewer than {more} promises in {PATIENCE:?}");
            // Promises are counted without the lock, so a signal may be missed: look again soon.
            guard = self.heard.wait_timeout(guard, Duration::from_millis(5)).expect("no client panicked").0;
        }
    }
}

/// Kills `plan.kills` lives under load.
pub(super) fn run(plan: &Plan, data: &Path, history: &History) {
    let stage = Stage {
        life: Mutex::new((0, String::new())),
        born: Condvar::new(),
        promises: AtomicU64::new(0),
        heard: Condvar::new(),
        waiting: Mutex::new(()),
        closed: AtomicBool::new(false),
    };
    let mut random = Random::seeded(plan.seed);
    thread::scope(|scope| {
        let stage = &stage;
        let clients: Vec<_> =
            (0..plan.clients).map(|number| scope.spawn(move || client::run(plan, number, stage, history))).collect();
        for kill in 1..=plan.kills {
            let mut server = setup(data).spawn();
            if random.chance(10) {
                // In the middle of starting, of recovering: after the first line it logs.
                server.wait_first_line();
            } else {
                server.wait_listening();
                stage.publish(server.base());
                let most = if random.chance(20) { 3 } else { 150 };
                stage.hear(random.below(most));
            }
            server.kill();
            if kill % 25 == 0 {
                let (code, audit) = audit(data);
                assert_eq!((code, &audit["balanced"]), (Some(0), &true.into()), "after kill {kill}: {audit}");
                println!("{kill} kills, {} promises", stage.promises.load(Ordering::SeqCst));
            }
            assert!(!clients.iter().any(|client| client.is_finished()), "a client gave up, see above");
        }
        let server = setup(data).start();
        stage.publish(server.base());
        stage.closed.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("every client told what it had begun");
        }
        server.kill();
    });
    let promises = stage.promises.load(Ordering::SeqCst);
    println!("{} kills, {promises} promises heard by {} clients", plan.kills, plan.clients);
}
