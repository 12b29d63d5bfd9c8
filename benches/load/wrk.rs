//! Load over HTTP, by `wrk` (Debian package).

use std::process::Command;

/// What is sent: to `path`, in which `{key}` is one of so many keys.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) path: &'a str,
    pub(crate) keys: u64,
    /// Whether the answer is the result.
    pub(crate) wait: bool,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

impl Load<'_> {
    /// requests/s, p50 and p99 in milliseconds.
    pub(crate) async fn on(self, base: &str) -> [f64; 3] {
        let Self { path, keys, wait, connections, seconds } = self;
        let wait = if wait { "wait" } else { "no" };
        let command = format!(
            "wrk -t1 -c{connections} -d{seconds}s --timeout 10s --latency -s bench/post.lua {base} -- '{path}' {keys} {wait}"
        );
        let output =
            actix_web::web::block(move || Command::new("sh").args(["-c", &command]).output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find(|line| line.starts_with("RESULT")).unwrap_or_else(|| panic!("wrk said: {text}"));
        let numbers: Vec<f64> = line.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers[3], 0.0, "wrk saw errors: {text}");
        [numbers[0], numbers[1], numbers[2]]
    }
}
