//! Free ports for servers that cannot say which one they got.

use std::{fs, net::TcpListener, process, time::UNIX_EPOCH};

use super::super::Random;

/// How often a server is started on another port, because somebody took the one it was given.
const TRIES: u32 = 5;

/// A port that is free now. Not one of those the system gives to outgoing connections: while a
/// server is down, any connection might take its port, even the one of a client that looks for it.
pub fn free() -> u16 {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > 12_000);
    let limit: u16 = first.unwrap_or(32_768);
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let mut random = Random::seeded(now ^ u64::from(process::id()).rotate_left(32));
    for _ in 0..1000 {
        let port = 10_240 + random.below(u64::from(limit - 10_240)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of 1000 is free");
}

/// Starts a server on a free port; again on another one when it ends instead of being ready (`None`).
pub fn started<T>(what: &str, mut start: impl FnMut(u16) -> Option<T>) -> T {
    let server = (0..TRIES).find_map(|_| start(free()));
    server.unwrap_or_else(|| panic!("{what} does not start"))
}
