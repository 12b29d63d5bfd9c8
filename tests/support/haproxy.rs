//! A real load balancer in front of several nodes, as a rolling restart has one.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use tempfile::TempDir;

use super::{
    eventually,
    servers::{port, process::Process},
};

/// A running haproxy; killed when dropped.
pub struct Haproxy {
    process: Process,
    port: u16,
}

/// What haproxy says of one of its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Whether its health check passes.
    pub up: bool,
    /// How many requests it was given.
    pub requests: u64,
    /// How many of them it has not answered yet.
    pub under_way: u64,
}

impl Haproxy {
    /// In front of these addresses, such as `127.0.0.1:8081`, a fresh connection for each request:
    /// an idle one that the node closes just now would take a request with it.
    pub fn start(backends: &[String]) -> Self {
        Self::of(backends, "option http-server-close\n    balance roundrobin")
    }

    /// In front of these addresses, connections to them being kept, as most load balancers do.
    pub fn keeping_connections(backends: &[String]) -> Self {
        Self::of(backends, "option http-keep-alive\n    http-reuse safe\n    balance roundrobin")
    }

    /// In front of these addresses, for connections that last: to the node that has fewest, and a node that is
    /// busy with thousands of new ones is not taken for dead because its health check takes longer than usual.
    pub fn long_lived(backends: &[String]) -> Self {
        Self::of(
            backends,
            "option http-server-close\n    timeout tunnel 60s\n    timeout check 3s\n    balance leastconn",
        )
    }

    fn of(backends: &[String], connections: &str) -> Self {
        Self::configured(|dir, port| configuration(dir, port, backends, connections))
    }

    /// With the configuration that is made of its directory and its port. It is to have a socket `stats`
    /// in there, and servers that are called `node…`.
    pub fn configured(configuration: impl Fn(&Path, u16) -> String) -> Self {
        port::started("haproxy", |port| {
            let dir = TempDir::new().expect("a directory");
            let config = dir.path().join("haproxy.cfg");
            fs::write(&config, configuration(dir.path(), port)).expect("written");
            // -db: in the foreground.
            let arguments = vec!["-db".to_owned(), "-f".to_owned(), config.display().to_string()];
            let mut process = Process::start("haproxy", dir, arguments);
            process.becomes("ready", |process| stats(process).is_some()).then_some(Self { process, port })
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How its servers are, in the order they were given.
    pub fn backends(&self) -> Vec<Backend> {
        stats(&self.process).expect("haproxy answers")
    }

    /// Waits until exactly these servers are up.
    pub fn wait_up(&self, up: &[bool]) {
        eventually("haproxy to see which servers are up", || {
            self.backends().iter().map(|backend| backend.up).eq(up.iter().copied()).then_some(())
        });
    }

    /// All it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Only a connection that was never made is tried again, elsewhere: of anything later nobody knows
/// whether the node has accepted it, and a POST may not be sent twice.
fn configuration(dir: &Path, port: u16, backends: &[String], connections: &str) -> String {
    let mut text = format!(
        "global
    stats socket {}/stats
    log stdout format raw local0 warning
defaults
    mode http
    log global
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    {connections}
    retries 3
    retry-on conn-failure
    option redispatch 1
frontend front
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 200ms fall 1 rise 1
",
        dir.display()
    );
    for (index, backend) in backends.iter().enumerate() {
        text += &format!("    server node{index} {backend}\n");
    }
    text
}

/// What the socket in its own directory says, hence surely this process.
fn stats(process: &Process) -> Option<Vec<Backend>> {
    let mut socket = UnixStream::connect(process.dir().join("stats")).ok()?;
    socket.write_all(b"show stat\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let header: Vec<&str> = text.lines().next()?.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| header.iter().position(|other| *other == name).expect("a column of haproxy");
    let (server, status) = (column("svname"), column("status"));
    let (requests, under_way) = (column("stot"), column("scur"));
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let nodes = rows.filter(|row| row.get(server).is_some_and(|name| name.starts_with("node")));
    let number = |text: &str| text.parse().unwrap_or(0);
    let backends = nodes.map(|row| Backend {
        // "UP 1/2" and the like: on its way to another status.
        up: row[status].starts_with("UP"),
        requests: number(row[requests]),
        under_way: number(row[under_way]),
    });
    Some(backends.collect())
}
