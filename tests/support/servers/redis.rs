//! A private Redis or Valkey.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::{super::eventually, parts, port, process::Process};

/// Which server, and how it is configured: an append-only file, nothing evicted.
#[derive(Clone)]
pub struct RedisSetup {
    program: &'static str,
    options: Vec<(String, String)>,
    cluster: bool,
}

impl RedisSetup {
    /// Redis 7, `appendfsync always`.
    pub fn redis() -> Self {
        Self::of("redis-server")
    }

    /// Valkey 9, `appendfsync always`.
    pub fn valkey() -> Self {
        Self::of("valkey-server")
    }

    fn of(program: &'static str) -> Self {
        let options = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("save", ""),
            // A copy of its append-only file is of one file that only grows.
            ("auto-aof-rewrite-percentage", "0"),
            ("maxmemory-policy", "noeviction"),
            ("bind", "127.0.0.1"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { program, options, cluster: false }
    }

    /// `appendfsync everysec`: what was written in the last second may be lost with the machine.
    pub fn everysec(self) -> Self {
        self.set("appendfsync", "everysec")
    }

    /// With another option of `redis.conf`, or another value.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.options.retain(|(other, _)| other != name);
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As a node of a cluster, yet without slots.
    pub(super) fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }
}

/// A running server; killed when dropped.
pub struct Redis {
    process: Process,
    port: u16,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start(setup: RedisSetup) -> Self {
        port::started(setup.program, |port| {
            let dir = TempDir::new().expect("a directory");
            let mut options = setup.options.clone();
            options.push(("port".into(), port.to_string()));
            options.push(("dir".into(), dir.path().display().to_string()));
            if setup.cluster {
                options.push(("cluster-enabled".into(), "yes".into()));
                // The default lies 10000 above the port, where it may be taken.
                options.push(("cluster-port".into(), port::free().to_string()));
            }
            let arguments = options.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
            let mut process = Process::start(setup.program, dir, arguments);
            process.becomes("ready", |process| ready(process, port)).then_some(Self { process, port })
        })
    }

    /// Such as `redis://127.0.0.1:7001`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Such as `127.0.0.1:7001`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port, the same in all its lives.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on its port and its data, killing it first if it runs, and waits until it has
    /// loaded them.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process.start_again();
        let port = self.port;
        assert!(self.process.becomes("ready again", |process| ready(process, port)), "{}", self.process.log());
    }

    /// What its append-only file holds now, for [`roll_back`](Self::roll_back).
    pub fn keep(&self) -> Kept {
        let kept = TempDir::new().expect("a directory");
        copy(&self.log_dir(), kept.path());
        Kept(kept)
    }

    /// Kills it, as its machine died, and starts it with what it had when this was kept; waits until it has
    /// loaded that.
    pub fn roll_back(&mut self, kept: &Kept) {
        self.process.kill();
        let log = self.log_dir();
        fs::remove_dir_all(&log).expect("it had one");
        fs::create_dir(&log).expect("a directory");
        copy(kept.0.path(), &log);
        self.restart();
    }

    fn log_dir(&self) -> PathBuf {
        self.process.dir().join("appendonlydir")
    }

    /// Makes it a replica of the server at a port, and waits until it has what that one has.
    pub fn follow(&self, port: u16) {
        self.cli(&["replicaof", "127.0.0.1", &port.to_string()]);
        eventually("the replica to follow", || {
            let info = self.try_cli(&["info", "replication"]).ok()?;
            let says = |line: &str| info.lines().any(|other| other.trim_end() == line);
            (says("master_link_status:up") && says("master_sync_in_progress:0")).then_some(())
        });
    }

    /// Stops it where it is, with its connections open.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// What `redis-cli` answers to a command.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.try_cli(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// What `redis-cli` answers to a command, or the error.
    pub fn try_cli(&self, arguments: &[&str]) -> Result<String, String> {
        redis_cli(self.port, arguments)
    }

    /// Changes an option of the running server, until it ends.
    #[track_caller]
    pub fn config_set(&self, name: &str, value: &str) {
        self.cli(&["config", "set", name, value]);
    }

    /// All it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// An append-only file as it once was.
pub struct Kept(TempDir);

/// Copies the files of a directory. One that grows meanwhile is copied up to some length of that time.
fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("a directory").flatten() {
        // What is temporary may be gone.
        let _ = fs::copy(file.path(), to.join(file.file_name()));
    }
}

/// Runs `redis-cli` against a port of this machine.
pub fn redis_cli(port: u16, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(parts::program("redis-cli"));
    // -e: an error is an exit code, too.
    let output = command.args(["-e", "-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).output();
    let output = output.expect("redis-cli runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

/// Whether it has loaded its data; and that it is this process which says so, not one that took the
/// port a moment before.
fn ready(process: &Process, port: u16) -> bool {
    let ours = format!("process_id:{}", process.id());
    info(port).is_some_and(|info| info.lines().any(|line| line == ours) && info.lines().any(|line| line == "loading:0"))
}

/// `INFO`, without the start of another process.
fn info(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    // The server closes after its answer to QUIT, so that the end of the answer need not be found.
    stream.write_all(b"INFO\r\nQUIT\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
