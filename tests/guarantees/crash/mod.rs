//! The crash test: a real process is killed again and again in the middle of its work, by SIGKILL,
//! while many clients write to many keys. Afterwards everything it ever promised is held against
//! the clients' own history.
//!
//! ```text
//! script   what each order is told, and how each telling must end: decided before, from a seed
//! client   tells it over HTTP, repeats under the same Idempotency-Key until it hears 202
//! history  the clients' own file: what was sent, what was promised
//! killer   kills after a random number of promises, starts it again, two hundred times
//! check    reads the file back and compares: nothing lost, nothing twice, in order, balanced
//! ```

mod check;
mod client;
mod history;
mod killer;
mod script;

use std::path::Path;

use crate::support::server::Setup;

/// How hard it is tried.
pub(crate) struct Plan {
    /// Decides everything that is random.
    pub(crate) seed: u64,
    /// How often the process is killed.
    pub(crate) kills: u32,
    /// Clients that write at once.
    pub(crate) clients: u64,
    /// Orders that each client has under way at once.
    pub(crate) orders_at_once: usize,
}

/// How the server is started each time. Paid orders ship at once, so that everything ends.
fn setup(data: &Path) -> Setup {
    Setup::on(data).set("orders", "ship_after", "200ms")
}

/// Runs the plan and checks everything.
pub(crate) fn run(plan: &Plan) {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("history.jsonl"));
    let history = history::History::create(&file);
    killer::run(plan, &data, &history);
    drop(history);
    check::everything(plan, &data, &history::read(&file));
}
