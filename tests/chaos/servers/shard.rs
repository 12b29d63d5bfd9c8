//! What happens to one of several masters of Redis: it stands still, dies, or gives a slot away.

use super::faults::lasts;
use crate::{
    fault::{Kind, ServerFault},
    support::{Random, servers::RedisCluster},
    takeover::PARTITIONS,
};

/// How many keys of a slot move at once: few, so that a slot is in two places for a while.
const KEYS: usize = 2;

/// Lets a fault happen; answers what it does not explain.
pub(super) fn suffer(cluster: &mut RedisCluster, fault: ServerFault, random: &mut Random) -> Vec<String> {
    let shard = random.below(cluster.nodes().len() as u64) as usize;
    let mut surprises = Vec::new();
    match fault.kind {
        Kind::StallShard => {
            cluster.nodes()[shard].pause();
            lasts(fault.lasts);
            cluster.nodes()[shard].resume();
        }
        Kind::KillShard => {
            let node = cluster.node(shard);
            node.kill();
            lasts(fault.lasts);
            node.restart();
            cluster.wait_ok();
        }
        _ => {
            let key = key(random.below(u64::from(PARTITIONS)) as u16);
            let home = cluster.owner(&key);
            let away = (home + 1 + random.below(2) as usize) % cluster.nodes().len();
            for to in [away, home] {
                let mut moving = cluster.begin_move(&key, to);
                lasts(fault.lasts);
                // In steps, with time for calls between them: some find one key here and the other there.
                for _ in 0..4 {
                    moving.some(KEYS);
                    lasts(fault.lasts / 8);
                }
                let split = moving.end();
                if !split.is_empty() {
                    surprises.push(format!("while {key} moved, keys were made on both sides: {split:?}"));
                }
                lasts(fault.lasts);
            }
        }
    }
    surprises
}

/// A key in the slot of a partition.
pub(super) fn key(partition: u16) -> String {
    format!("greenroom:{{{partition:04}}}")
}

/// Which master has each partition.
pub(crate) fn owners(cluster: &RedisCluster) -> Vec<usize> {
    (0..PARTITIONS).map(|partition| cluster.owner(&key(partition))).collect()
}
