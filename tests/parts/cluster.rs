//! A Redis cluster: every slot has an owner, each owner keeps its data.

use crate::support::servers::{RedisCluster, RedisSetup};

#[test]
fn a_cluster_serves_every_slot_and_survives_the_kill_of_a_node() {
    let mut cluster = RedisCluster::start();
    for node in cluster.nodes() {
        let info = node.cli(&["cluster", "info"]);
        for line in ["cluster_state:ok", "cluster_slots_assigned:16384", "cluster_slots_ok:16384", "cluster_size:3"] {
            assert!(info.lines().any(|other| other.trim_end() == line), "{line}: {info}");
        }
    }

    let owner = cluster.owner("{0042}:mailbox");
    let other = (owner + 1) % 3;
    let refused = cluster.node(other).try_cli(&["set", "{0042}:mailbox", "1"]).unwrap_err();
    assert!(refused.contains("MOVED"), "{refused}");
    cluster.node(owner).cli(&["set", "{0042}:mailbox", "kept"]);

    cluster.node(owner).kill();
    cluster.node(owner).restart();
    cluster.wait_ok();
    assert_eq!(cluster.node(owner).cli(&["get", "{0042}:mailbox"]), "kept");
    let url = cluster.url();
    assert_eq!(url.strip_prefix("redis-cluster://").unwrap().split(',').count(), 3, "{url}");
}

#[test]
fn valkey_makes_a_cluster_too() {
    let cluster = RedisCluster::of(&RedisSetup::valkey());
    let owner = &cluster.nodes()[cluster.owner("key")];
    assert_eq!(owner.cli(&["set", "key", "1"]), "OK");
}

#[test]
fn a_slot_moves_to_another_node_and_one_that_was_split_is_named() {
    let cluster = RedisCluster::start();
    let owner = cluster.owner("{0042}:a");
    let other = (owner + 1) % 3;
    for key in ["{0042}:a", "{0042}:b"] {
        cluster.nodes()[owner].cli(&["set", key, "1"]);
    }
    let mut moving = cluster.begin_move("{0042}:a", other);
    let asked = cluster.nodes()[owner].try_cli(&["get", "{0042}:c"]).unwrap_err();
    assert!(asked.contains("ASK"), "{asked}");
    assert!(moving.some(1));
    assert!(moving.end().is_empty());
    assert_eq!(cluster.owner("{0042}:a"), other);
    assert_eq!(cluster.nodes()[other].cli(&["mget", "{0042}:a", "{0042}:b"]).lines().count(), 2);
}
