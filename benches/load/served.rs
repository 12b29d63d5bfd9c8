//! Nodes as processes of their own: this benchmark's program once more, which then is Greenroom as
//! anybody runs it, with a counter and an actor that does nothing.

use std::process::{Child, Command, Stdio};

use actix_web::{HttpResponse, web};
use greenroom::{
    Actor, App, Context, Feature, Result,
    config::{Config, Sources},
    gateway::{Intake, Problem},
};

use super::{
    counter::{self, Add},
    servers::{Redis, answers, free_port, mongo, name},
};

struct Job;

impl Actor for Job {
    const KIND: &'static str = "job";
    type State = ();
    type Command = Add;
    type Reply = u64;

    async fn handle(&self, _: &mut (), add: Add, _: &Context<Self>) -> Result<u64> {
        Ok(add.add)
    }
}

async fn run(intake: Intake, key: web::Path<String>, body: web::Json<Add>) -> Result<HttpResponse, Problem> {
    intake.accept(Job::at(key.into_inner()), body.into_inner()).answer(serde_json::json!({})).await
}

/// What says that this process is to be a node.
const NODE: &str = "GREENROOM_BENCH_NODE";

/// Is a node until it is killed, if that is what this process was started for.
pub(crate) fn serve_if_told() {
    if std::env::var_os(NODE).is_none() {
        return;
    }
    let jobs = Feature::new(Job).routes(|routes| {
        routes.route("/jobs/{key}", web::post().to(run));
    });
    let config = Config::from_sources(Sources::process()).unwrap();
    App::new(config).feature(counter::feature()).feature(jobs).run().unwrap();
    std::process::exit(0);
}

/// A node, killed when dropped.
pub(crate) struct Served {
    child: Child,
    port: u16,
}

impl Served {
    /// On this Redis, with fsynced commits, one HTTP thread and one for actors.
    pub(crate) fn start(redis: &Redis, what: &str) -> Self {
        let port = free_port();
        let child = Command::new(std::env::current_exe().unwrap())
            .env(NODE, "1")
            .env("GREENROOM_STORE__KIND", "cluster")
            .env("GREENROOM_STORE__REDIS", redis.url())
            .env("GREENROOM_STORE__MONGO", mongo())
            .env("GREENROOM_STORE__DATABASE", name(what))
            .env("GREENROOM_STORE__PREFIX", name(what))
            .env("GREENROOM_STORE__ACCEPT", "fsync")
            .env("GREENROOM_GATEWAY__LISTEN", format!("127.0.0.1:{port}"))
            .env("GREENROOM_GATEWAY__WORKERS", "1")
            .env("GREENROOM_RUNTIME__ARBITERS", "1")
            .env("GREENROOM_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        answers(port);
        Self { child, port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It is ours, and what it has accepted is of no interest any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
