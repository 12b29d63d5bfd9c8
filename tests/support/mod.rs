//! What black-box tests share: the real binary as a process, the real servers it needs, load
//! balancers and load in front of it, a small HTTP client, seeded randomness, and waiting for a
//! condition instead of for a time.

// Each test target uses its own part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

pub mod build;
pub mod haproxy;
pub mod history;
pub mod http;
pub mod load;
pub mod nginx;
pub mod random;
pub mod server;
pub mod servers;

use std::time::{Duration, Instant};

pub use haproxy::Haproxy;
pub use http::{Answer, Client};
pub use load::Load;
pub use nginx::Nginx;
pub use random::Random;
pub use server::Server;

/// The longest anything here may take before the test fails, unless said otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; fails after [`PATIENCE`] with `what` was waited for. For
/// conditions that nobody signals; everything else waits for its signal.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
