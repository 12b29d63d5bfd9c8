//! Masters that die or give way: what was theirs is asked of the replica that takes their place.

use std::time::Duration;

use greenroom::backend::Nodes;
use tempfile::TempDir;

use super::store::{Appender, joined, options, run};
use crate::support::{
    eventually,
    servers::{Redis, RedisCluster, RedisSetup, port, process::Process, redis::redis_cli as cli},
};

/// A replica of one node of a cluster.
fn replica_of(cluster: &RedisCluster, index: usize) -> Redis {
    let bus = port::free().to_string();
    let node = &cluster.nodes()[index];
    let options = [("cluster-enabled", "yes"), ("cluster-port", bus.as_str()), ("cluster-node-timeout", "5000")];
    let setup = options.iter().fold(RedisSetup::redis(), |setup, (name, value)| setup.set(name, value));
    let replica = Redis::start(setup);
    let nodes = node.cli(&["cluster", "nodes"]);
    let myself = nodes.lines().find(|line| line.contains("myself")).unwrap();
    // "<id> 127.0.0.1:7001@17001 …"
    let its_bus = myself.split(['@', ' ']).nth(2).unwrap().to_owned();
    replica.cli(&["cluster", "meet", "127.0.0.1", &node.port().to_string(), &its_bus]);
    let id = node.cli(&["cluster", "myid"]);
    eventually("the replica to know its master", || replica.try_cli(&["cluster", "replicate", &id]).ok());
    // A sentinel ends all connections of a server that it promotes, that of a question too.
    eventually("the replica to follow", || {
        replica.try_cli(&["info", "replication"]).ok()?.contains("master_link_status:up").then_some(())
    });
    eventually("the cluster to know it", || {
        cluster.nodes().iter().all(|node| node.cli(&["cluster", "nodes"]).contains(&replica.address())).then_some(())
    });
    replica
}

#[test]
fn calls_go_on_at_the_replica_of_a_master_that_died() {
    let mut cluster = RedisCluster::start();
    let options = options(&cluster.url());
    let owner = cluster.owner(&format!("{}:{{0000}}", options.prefix));
    let replica = replica_of(&cluster, owner);
    run(async {
        let store = joined(&options).await;
        let appender = Appender::start(&store, 0);
        appender.more(20).await;
        cluster.node(owner).kill();
        replica.cli(&["cluster", "failover", "takeover"]);
        appender.more(50).await;
        let log = appender.stop().await;
        // What was on its way is lost or not; what was asked after that waited.
        assert!(log.errors.len() <= 2, "{:?}", log.errors);
        let slowest = log.took.iter().max().unwrap();
        assert!(*slowest < Duration::from_secs(5), "{slowest:?}");
    });
}

#[test]
fn a_master_that_gives_way_in_order_loses_no_call() {
    let cluster = RedisCluster::start();
    let options = options(&cluster.url());
    let owner = cluster.owner(&format!("{}:{{0000}}", options.prefix));
    let replica = replica_of(&cluster, owner);
    run(async {
        let store = joined(&options).await;
        let appender = Appender::start(&store, 0);
        appender.more(20).await;
        replica.cli(&["cluster", "failover"]);
        eventually("the replica to be master", || {
            replica.try_cli(&["info", "replication"]).ok()?.contains("role:master").then_some(())
        });
        appender.more(50).await;
        assert_eq!(appender.stop().await.errors, Vec::<String>::new());
    });
}

#[test]
fn letters_come_over_another_server_when_theirs_dies() {
    let mut cluster = RedisCluster::start();
    let options = options(&cluster.url());
    let nodes_at = cluster.owner(&format!("{}:{{nodes}}", options.prefix));
    run(async {
        let [reader, writer] = [joined(&options).await, joined(&options).await];
        let mut letters = reader.letters().unwrap();
        let me = reader.beat().await.unwrap().iter().map(|member| member.id).min().unwrap();
        let mut heard = async |what: &str| {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
            loop {
                // Posted again until it is heard: it may go by while nobody listens.
                let _ = writer.post(me, what.into()).await;
                let wait = Duration::from_millis(200);
                if let Ok(Some(letter)) = tokio::time::timeout(wait, letters.recv()).await
                    && letter == what.as_bytes()
                {
                    break;
                }
                assert!(tokio::time::Instant::now() < deadline, "{what} is not heard");
            }
        };
        heard("first").await;
        let channel = format!("{}:node:{me}", options.prefix);
        let listens = |node: &Redis| node.cli(&["pubsub", "numsub", &channel]).ends_with('1');
        let listened = cluster.nodes().iter().position(listens).unwrap();
        // The channel's own server must live, or nothing can be posted.
        if listened != cluster.owner(&channel) && listened != nodes_at {
            cluster.node(listened).kill();
        } else {
            cluster.nodes()[listened].cli(&["client", "kill", "type", "pubsub"]);
        }
        heard("second").await;
    });
}

/// A sentinel that looks after one master.
fn sentinel(master: &Redis) -> (Process, u16) {
    let port = port::free();
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("sentinel.conf");
    let lines = [
        format!("port {port}"),
        format!("sentinel monitor main 127.0.0.1 {} 1", master.port()),
        "sentinel down-after-milliseconds main 500".into(),
        "sentinel failover-timeout main 5000".into(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let arguments = vec![file.display().to_string(), "--sentinel".into()];
    (Process::start("redis-server", dir, arguments), port)
}

#[test]
fn a_sentinel_names_the_next_master() {
    let (master, mut replica) = (Redis::start(RedisSetup::redis()), Redis::start(RedisSetup::redis()));
    replica.cli(&["replicaof", "127.0.0.1", &master.port().to_string()]);
    let (_sentinel, port) = sentinel(&master);
    eventually("the sentinel to know the replica", || {
        let info = cli(port, &["info", "sentinel"]).ok()?;
        (info.contains("status=ok") && info.contains("slaves=1")).then_some(())
    });
    let url = format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main");
    let options = options(&url);
    run(async {
        let store = joined(&options).await;
        let appender = Appender::start(&store, 0);
        appender.more(20).await;
        // It gives way in order, and then the new one dies and the old one is back.
        // The replica is good only once the sentinel has asked it.
        eventually("the sentinel to begin", || cli(port, &["sentinel", "failover", "main"]).ok());
        eventually("the replica to be master", || {
            replica.try_cli(&["info", "replication"]).ok()?.contains("role:master").then_some(())
        });
        appender.more(50).await;
        eventually("the old master to follow", || {
            master.try_cli(&["info", "replication"]).ok()?.contains("master_link_status:up").then_some(())
        });
        appender.more(50).await;
        replica.kill();
        appender.more(50).await;
        appender.stop().await;
    });
}
