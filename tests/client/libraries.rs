//! Libraries of functions: loaded again when Redis has lost them, deleted when they are of old builds.

use super::store::{append, joined, options, run};
use crate::support::{
    eventually,
    servers::{Redis, RedisCluster, RedisSetup},
};

fn libraries(redis: &Redis) -> usize {
    redis
        .cli(&["function", "list"])
        .lines()
        .filter(|line| line.starts_with("greenroom_"))
        .filter(|line| line.len() == 26)
        .count()
}

#[test]
fn libraries_of_old_builds_are_deleted_and_the_newest_stay() {
    for setup in [RedisSetup::redis(), RedisSetup::valkey()] {
        let redis = Redis::start(setup);
        for n in 0..30 {
            let code =
                format!("#!lua name=greenroom_{n:016x}\nredis.register_function('f{n}', function() return 1 end)");
            redis.cli(&["function", "load", &code]);
        }
        run(async {
            let options = options(&redis.url());
            let store = joined(&options).await;
            eventually("the old ones to be deleted", || (libraries(&redis) == 16).then_some(()));
            append(&store, 0, 1).await.unwrap();
            // One that is in use and gone all the same is loaded again.
            redis.cli(&["function", "flush"]);
            append(&store, 0, 1).await.unwrap();
        });
    }
}

#[test]
fn each_server_of_a_cluster_that_lost_its_functions_is_given_them() {
    let cluster = RedisCluster::start();
    run(async {
        let store = joined(&options(&cluster.url())).await;
        cluster.nodes().iter().for_each(|node| drop(node.cli(&["function", "flush"])));
        for partition in 0..16 {
            assert_eq!(append(&store, partition, 1).await, Ok(1));
        }
    });
}
