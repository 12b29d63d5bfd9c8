//! An app runs on its directory, gives back what was played, and lets nobody else in meanwhile.

use super::*;
use crate::{Actor, Context};

struct Counter;

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
        *total += add;
        Ok(*total)
    }
}

fn app(dir: &std::path::Path) -> App {
    App::embedded(dir.join("counter.db")).feature(Feature::new(Counter))
}

#[test]
fn what_was_done_is_there_in_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let first = app(dir.path()).run_until(|node| async move { node.ask(Counter::at("a"), 2).await }).unwrap();
    let second = app(dir.path()).run_until(|node| async move { node.ask(Counter::at("a"), 3).await }).unwrap();
    assert_eq!((first, second), (2, 5));
}

#[test]
fn one_process_at_a_time_and_an_error_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let other = app(dir.path());
    let error = app(dir.path())
        .run_until(|_| async move {
            // Another thread, as another process would: a system runs on one.
            let refused = std::thread::spawn(|| other.run_until(|_| async { Ok(()) })).join();
            refused.map_err(|_| Error::new("panicked"))?
        })
        .unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_wrong_configuration_is_an_error_of_running() {
    let config = Config::from_sources(Sources {
        flags: vec![("test", "store", "data", "/dev/null/nowhere".to_owned())],
        ..Sources::default()
    });
    let ran = App::new(config.unwrap()).run_until(|_| async { Ok(()) });
    assert!(ran.unwrap_err().to_string().contains("/dev/null/nowhere"));
}
