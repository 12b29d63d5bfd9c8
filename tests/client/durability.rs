//! A disk that is said to be waited for is seen to be: where it is not, the promise is refused.

use greenroom::backend::cluster::{Accept, Cluster, Options};

use super::store::{joined, options, run};
use crate::support::{
    eventually,
    servers::{Redis, RedisCluster, RedisSetup},
};

fn refusal(options: &Options) -> String {
    let error = Cluster::open(options.clone()).err().expect("it is refused");
    assert!(error.has_code("cannot_promise"), "{error}");
    // What a person asks before it is served says the same.
    assert_eq!(Cluster::examine(options.clone()).unwrap_err().to_string(), error.to_string());
    error.to_string()
}

#[test]
fn a_server_that_answers_waitaof_before_its_disk_has_the_write_is_refused() {
    let valkey = Redis::start(RedisSetup::valkey().everysec());
    let options = options(&valkey.url());
    let said = refusal(&options);
    assert!(said.contains("redis#12622") && said.contains("`appendfsync always`"), "{said}");
    run(async {
        drop(joined(&Options { accept: Accept::Memory, ..options.clone() }).await);
        valkey.config_set("appendfsync", "always");
        drop(joined(&options).await);
    });
}

#[test]
fn a_server_that_cannot_wait_is_refused() {
    let redis = Redis::start(RedisSetup::redis().everysec());
    let said = refusal(&options(&redis.url()));
    assert!(said.contains("`appendfsync always`"), "{said}");
}

#[test]
fn every_master_of_a_cluster_is_looked_at() {
    let cluster = RedisCluster::start();
    let options = options(&cluster.url());
    for node in cluster.nodes() {
        node.config_set("appendfsync", "everysec");
        let said = refusal(&options);
        assert!(said.contains(&node.address()), "{said}");
        node.config_set("appendfsync", "always");
    }
    run(async { drop(joined(&options).await) });
}

#[test]
fn what_a_replica_must_have_is_waited_for_on_the_connection_that_wrote_it() {
    let (redis, replica) = (Redis::start(RedisSetup::redis()), Redis::start(RedisSetup::redis()));
    replica.cli(&["replicaof", "127.0.0.1", &redis.port().to_string()]);
    eventually("the replica follows", || {
        redis.try_cli(&["info", "replication"]).ok()?.contains("state=online").then_some(())
    });
    let options = Options { accept: Accept::Replicated, ..options(&redis.url()) };
    run(async {
        let store = joined(&options).await;
        super::store::append(&store, 0, 1).await.unwrap();
        replica.pause();
        let writing = store.clone();
        let write = tokio::spawn(async move { super::store::append(&writing, 0, 2).await });
        // When it waits, its connection is closed: what is waited for over the next one says nothing.
        eventually("a write to wait", || {
            redis.cli(&["client", "list"]).lines().any(|line| line.contains("cmd=wait ")).then_some(())
        });
        redis.cli(&["client", "kill", "type", "normal", "skipme", "yes"]);
        assert!(write.await.unwrap().is_err(), "no replica has it");
        replica.resume();
    });
}
