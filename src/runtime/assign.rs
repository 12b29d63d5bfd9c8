//! Which node a partition belongs to: rendezvous hashing, so every node that knows the same members
//! comes to the same answer, and a node that comes or goes moves only its own share.
//!
//! Invariant: the answer depends on the members and the partition only. Two nodes that know different
//! members may both want a partition; its lease decides who has it.

use xxhash_rust::xxh3::xxh3_64;

/// The member that `partition` belongs to; `None` when there are no members.
pub(crate) fn owner(members: &[u64], partition: u16) -> Option<u64> {
    members.iter().copied().max_by_key(|member| (weight(*member, partition), *member))
}

fn weight(member: u64, partition: u16) -> u64 {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&member.to_le_bytes());
    bytes[8..].copy_from_slice(&partition.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: u16 = 1024;

    fn all(members: &[u64]) -> Vec<Option<u64>> {
        (0..PARTITIONS).map(|partition| owner(members, partition)).collect()
    }

    #[test]
    fn every_member_has_about_its_share() {
        for count in 1..=8u64 {
            let members: Vec<u64> = (1..=count).collect();
            let owners = all(&members);
            for member in members {
                let has = owners.iter().filter(|owner| **owner == Some(member)).count() as u64;
                let share = u64::from(PARTITIONS) / count;
                assert!((share * 3 / 4..=share * 5 / 4).contains(&has), "{member} of {count} has {has}, not {share}");
            }
        }
    }

    #[test]
    fn who_comes_or_goes_moves_only_its_own() {
        let (before, after) = (all(&[1, 2, 3, 4]), all(&[1, 2, 3, 4, 5]));
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == Some(5), "{before:?} to {after:?}");
        }
        let without = all(&[1, 2, 4]);
        for (before, without) in before.iter().zip(&without) {
            assert!(before == without || *before == Some(3), "{before:?} to {without:?}");
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        assert_eq!(all(&[7, 3, 5]), all(&[3, 5, 7]));
        assert_eq!(owner(&[], 1), None);
        assert_eq!(owner(&[9], 1), Some(9));
    }
}
