//! The servers that the benchmarks of the cluster store run on: a Redis of their own, and the MongoDB
//! that `GREENROOM_TEST_MONGO` names.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use fred::prelude::*;
use greenroom::backend::cluster::{Accept, Options};

pub(crate) const PARTITIONS: u16 = 16;

/// A Redis of our own, killed when dropped.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub(crate) fn start(fsync: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let ours = std::path::Path::new(".parts/bin/redis-server");
        let program = if ours.exists() { std::path::absolute(ours).unwrap() } else { "redis-server".into() };
        let child = Command::new(program)
            .current_dir(dir.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", fsync])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        answers(port);
        Self { child, port, _dir: dir }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn client(&self) -> Client {
        let client = Builder::from_config(Config::from_url(&self.url()).unwrap()).build().unwrap();
        client.init().await.unwrap();
        client
    }

    /// Processor time it has used, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        cpu(self.pid())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It is ours, and on its way out.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time a process has used, in seconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens there.
pub(crate) fn answers(port: u16) {
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn mongo() -> String {
    std::env::var("GREENROOM_TEST_MONGO").expect("GREENROOM_TEST_MONGO: tests/servers start && . .parts/run/env")
}

/// The process id of that MongoDB.
pub(crate) async fn mongo_pid() -> u32 {
    let client = mongodb::Client::with_uri_str(&mongo()).await.unwrap();
    let status = client.database("admin").run_command(mongodb::bson::doc! { "serverStatus": 1 }).await.unwrap();
    status.get_i64("pid").unwrap() as u32
}

/// What a database and a prefix of this run are called.
pub(crate) fn name(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

pub(crate) fn options(redis: &Redis, accept: Accept, what: &str) -> Options {
    Options {
        redis: redis.url(),
        mongo: mongo(),
        database: name(what),
        prefix: name(what),
        partitions: PARTITIONS,
        mailbox_bytes: 4 << 30,
        accept,
        lease: Duration::from_secs(3),
        forget: greenroom::backend::cluster::FORGET,
        redis_tls: Default::default(),
        faults: None,
    }
}
