//! A private MongoDB: a replica set of one, or a server alone.

use std::{net::TcpStream, thread};

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};
use tempfile::TempDir;

use super::{super::eventually, port, process::Process};

/// A running MongoDB; killed when dropped, if it is ours.
pub struct Mongo {
    url: String,
    own: Option<Own>,
}

/// A server we started.
pub(super) struct Own {
    pub(super) process: Process,
    pub(super) port: u16,
    replica_set: bool,
}

impl Mongo {
    /// A replica set of one; that of `MONGODB_URI` if the environment names one, which cannot be
    /// killed or paused. Tests that do use [`private`](Self::private).
    pub fn start() -> Self {
        match std::env::var("MONGODB_URI") {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::private(),
        }
    }

    /// A replica set of one that is ours alone; waits until it is primary.
    pub fn private() -> Self {
        let own = Own::start(true);
        Self { url: format!("mongodb://127.0.0.1:{}/?replicaSet=rs0", own.port), own: Some(own) }
    }

    /// A server without a replica set, hence without majority or transactions.
    pub fn standalone() -> Self {
        let own = Own::start(false);
        Self { url: format!("mongodb://127.0.0.1:{}/?directConnection=true", own.port), own: Some(own) }
    }

    /// How clients reach it. Of a replica set they learn from itself where it is, and wait while it
    /// has no primary: through a proxy only [`direct`] connections go.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Such as `127.0.0.1:7001`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Its port, the same in all its lives.
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.own().process.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.own_mut().process.kill();
    }

    /// Starts it again on its port and its data, killing it first if it runs, and waits until it
    /// takes writes.
    pub fn restart(&mut self) {
        let own = self.own_mut();
        own.process.kill();
        own.process.start_again();
        assert!(own.answers(), "{}", own.process.log());
        own.wait_writable();
    }

    /// Stops it where it is, with its connections open.
    pub fn pause(&self) {
        self.own().process.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.own().process.resume();
    }

    /// Runs a command and waits for its answer, in asynchronous tests too.
    #[track_caller]
    pub fn command(&self, database: &str, command: Document) -> Document {
        let what = format!("{command:?}");
        run(&self.url, database, command).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// All it logged.
    pub fn log(&self) -> String {
        self.own().process.log()
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("what MONGODB_URI names is not ours: use Mongo::private()")
    }

    fn own_mut(&mut self) -> &mut Own {
        self.own.as_mut().expect("what MONGODB_URI names is not ours: use Mongo::private()")
    }
}

/// The URL of a MongoDB behind `address`, such as that of a proxy, where clients stay there.
pub fn direct(address: &str) -> String {
    format!("mongodb://{address}/?directConnection=true")
}

impl Own {
    fn start(replica_set: bool) -> Self {
        let own = Self::launch(replica_set);
        if replica_set {
            let member = doc! { "_id": 0, "host": format!("127.0.0.1:{}", own.port) };
            let config = doc! { "_id": "rs0", "members": [member] };
            let made = own.run(doc! { "replSetInitiate": config });
            made.unwrap_or_else(|error| panic!("no replica set: {error}\n{}", own.process.log()));
        }
        own.wait_writable();
        own
    }

    /// A process that answers, and is not yet told what it is a member of.
    pub(super) fn launch(replica_set: bool) -> Self {
        port::started("mongod", |port| {
            let dir = TempDir::new().expect("a directory");
            let port_text = port.to_string();
            let path = dir.path().to_str().expect("UTF-8").to_owned();
            let mut arguments = vec!["--dbpath", &path, "--port", &port_text, "--bind_ip", "127.0.0.1"];
            arguments.extend(["--wiredTigerCacheSizeGB", "0.5"]);
            if replica_set {
                arguments.extend(["--replSet", "rs0", "--oplogSize", "64"]);
            }
            let arguments = arguments.into_iter().map(str::to_owned).collect();
            let mut own = Self { process: Process::start("mongod", dir, arguments), port, replica_set };
            own.answers().then_some(own)
        })
    }

    pub(super) fn run(&self, command: Document) -> Result<Document, mongodb::error::Error> {
        let url = direct(&format!("127.0.0.1:{}", self.port)) + "&serverSelectionTimeoutMS=5000";
        run(&url, "admin", command)
    }

    /// Waits until it answers; and that it is this process which does, not one that took the port a
    /// moment before. `false` when it ended instead.
    pub(super) fn answers(&mut self) -> bool {
        let port = self.port;
        // The driver would look again only after half a second.
        if !self.process.becomes("listening", |_| TcpStream::connect(("127.0.0.1", port)).is_ok()) {
            return false;
        }
        let url = direct(&format!("127.0.0.1:{port}")) + "&serverSelectionTimeoutMS=5000";
        self.process.becomes("answering", |process| {
            let status = run(&url, "admin", doc! { "serverStatus": 1 }).ok();
            let id = status.and_then(|status| match status.get("pid")? {
                Bson::Int64(id) => Some(*id),
                Bson::Int32(id) => Some(i64::from(*id)),
                _ => None,
            });
            id == Some(i64::from(process.id()))
        })
    }

    fn wait_writable(&self) {
        eventually("MongoDB to take writes", || {
            let hello = self.run(doc! { "hello": 1 }).ok()?;
            let in_set = hello.get_str("setName").is_ok();
            (hello.get_bool("isWritablePrimary").ok()? && in_set == self.replica_set).then_some(())
        });
    }
}

/// Runs one command. On a thread of its own, as the caller's may be in the middle of another
/// asynchronous runtime.
fn run(url: &str, database: &str, command: Document) -> Result<Document, mongodb::error::Error> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Client::with_uri_str(url).await?;
            client.database(database).run_command(command).await
        })
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
