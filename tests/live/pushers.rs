//! Whoever pushes: numbers from 1 on each tape, one after the other, each repeated under one key until it is
//! accepted, on whichever node. So it is known exactly what every client must be given.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::Client;

/// How many push at once.
const PUSHERS: usize = 4;

/// When each number of each tape was pushed.
pub(crate) type Pushed = Arc<Vec<Mutex<Vec<Instant>>>>;

/// Nothing on so many tapes.
pub(crate) fn nothing(tapes: usize) -> Pushed {
    Arc::new((0..tapes).map(|_| Mutex::default()).collect())
}

pub(crate) struct Pushers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    pushed: Pushed,
    threads: Vec<JoinHandle<()>>,
}

impl Pushers {
    /// So many numbers a second, over all tapes in turn.
    pub(crate) fn start(url: &str, pushed: &Pushed, rate: usize) -> Self {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let pace = Duration::from_secs_f64(PUSHERS as f64 / rate as f64);
        let threads = (0..PUSHERS).map(|pusher| {
            let (stop, accepted, pushed) = (stop.clone(), accepted.clone(), pushed.clone());
            let client = Client::patient(url, Duration::from_secs(10));
            thread::spawn(move || {
                let mut due = Instant::now();
                for tape in (pusher..pushed.len()).step_by(PUSHERS).cycle() {
                    if stop.load(SeqCst) {
                        return;
                    }
                    push(&client, tape, &pushed[tape]);
                    accepted.fetch_add(1, SeqCst);
                    due += pace;
                    thread::park_timeout(due.saturating_duration_since(Instant::now()));
                }
            })
        });
        Self { threads: threads.collect(), stop, accepted, pushed: pushed.clone() }
    }

    /// How many were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(SeqCst)
    }

    /// Ends it; how many numbers each tape was accepted.
    pub(crate) fn stop(self) -> Vec<u64> {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().for_each(|pusher| pusher.join().expect("it pushed"));
        self.pushed.iter().map(|tape| tape.lock().unwrap().len() as u64).collect()
    }
}

/// Pushes the tape's next number until it is accepted.
fn push(client: &Client, tape: usize, pushed: &Mutex<Vec<Instant>>) {
    let number = {
        let mut pushed = pushed.lock().unwrap();
        pushed.push(Instant::now());
        pushed.len()
    };
    let (path, key) = (format!("/tapes/{tape}"), format!("{tape}-{number}"));
    let body = json!({ "n": number }).to_string();
    loop {
        let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
        match client.send("POST", &path, &headers, Some(body.as_bytes())) {
            Ok(answer) if answer.status == 202 => return,
            Ok(answer) if answer.status < 500 && answer.status != 429 => panic!("{answer:?}"),
            // A node that is going, or gone: on another one.
            _ => thread::park_timeout(Duration::from_millis(50)),
        }
    }
}
