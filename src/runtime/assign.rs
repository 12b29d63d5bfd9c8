//! Which node a partition belongs to: rendezvous hashing, so every node that knows the same members
//! comes to the same answer, and a node that comes or goes moves only its own share. A partition with messages
//! that one build cannot read is for a node of another build.
//!
//! Invariant: the answer depends on the members, what they say of themselves, and the partition only. Two nodes that know different
//! members may both want a partition; its lease decides who has it.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::backend::Member;

/// Partitions among members.
pub(crate) struct Assigned<'a> {
    staying: &'a [u64],
    builds: HashMap<u64, Option<&'a str>>,
    /// What a member declines it declines for its build: others of that can read no more.
    declined: HashSet<(u16, Option<&'a str>)>,
}

impl<'a> Assigned<'a> {
    /// Among those of the members that stay.
    pub(crate) fn among(members: &'a [Member], staying: &'a [u64]) -> Self {
        let build = |member: &'a Member| member.info.build.as_deref();
        let declined = members
            .iter()
            .flat_map(|member| member.info.declines.iter().map(move |partition| (*partition, build(member))));
        Self {
            staying,
            builds: members.iter().map(|member| (member.id, build(member))).collect(),
            declined: declined.collect(),
        }
    }

    /// The member that a partition belongs to; `None` when there are no members.
    pub(crate) fn owner(&self, partition: u16) -> Option<u64> {
        if self.declined.is_empty() {
            return owner(self.staying, partition);
        }
        let reads = |id: &u64| {
            let build = self.builds.get(id).copied().flatten();
            !self.declined.contains(&(partition, build))
        };
        let able: Vec<u64> = self.staying.iter().copied().filter(reads).collect();
        // What nobody can read waits where it would be anyway.
        owner(if able.is_empty() { self.staying } else { &able }, partition)
    }
}

/// The member that ranks highest for `partition`; `None` when there are no members.
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
    use crate::backend::NodeInfo;

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

    /// Members of these builds, each declining these partitions.
    fn members(of: &[(u64, &str, &[u16])]) -> Vec<Member> {
        let member = |(id, build, declines): &(u64, &str, &[u16])| {
            let info = NodeInfo { build: Some((*build).into()), declines: declines.to_vec(), ..NodeInfo::default() };
            Member { id: *id, beat: 1, info }
        };
        of.iter().map(member).collect()
    }

    #[test]
    fn what_a_build_declines_and_nothing_else_moves_to_the_best_of_another_build() {
        let ids = [1, 2, 3, 4];
        let before = all(&ids);
        let theirs = (0..PARTITIONS).find(|partition| owner(&ids, *partition) == Some(1)).unwrap();
        // 2 is of the same build: it could read no more of it.
        let members = members(&[(1, "old", &[theirs]), (2, "old", &[]), (3, "new", &[]), (4, "new", &[])]);
        let assigned = Assigned::among(&members, &ids);
        for partition in (0..PARTITIONS).filter(|partition| *partition != theirs) {
            assert_eq!(assigned.owner(partition), before[usize::from(partition)]);
        }
        assert_eq!(assigned.owner(theirs), owner(&[3, 4], theirs));
        // A member that leaves is no one to leave it to.
        assert_eq!(Assigned::among(&members, &[1, 2, 4]).owner(theirs), Some(4));
        assert_eq!(Assigned::among(&members, &[1, 2]).owner(theirs), owner(&[1, 2], theirs));
    }

    #[test]
    fn what_all_builds_decline_stays_where_it_was() {
        let (ids, every) = ([1, 2, 3], (0..PARTITIONS).collect::<Vec<u16>>());
        let members = members(&[(1, "old", &every), (2, "new", &every), (3, "old", &[])]);
        let assigned = Assigned::among(&members, &ids);
        assert!((0..PARTITIONS).all(|partition| assigned.owner(partition) == owner(&ids, partition)));
    }

    #[test]
    fn members_that_do_not_say_what_they_are_count_as_one_build() {
        let (ids, mut members) = ([1, 2, 3], members(&[(1, "", &[7]), (2, "", &[]), (3, "new", &[])]));
        (members[0].info.build, members[1].info.build) = (None, None);
        assert_eq!(Assigned::among(&members, &ids).owner(7), Some(3));
        // As builds say of themselves that have neither field.
        let said: NodeInfo = serde_json::from_str(r#"{"pid":7,"version":"0.1.0","since":1}"#).unwrap();
        assert_eq!((said.build, said.declines), (None, vec![]));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        assert_eq!(all(&[7, 3, 5]), all(&[3, 5, 7]));
        assert_eq!(owner(&[], 1), None);
        assert_eq!(owner(&[9], 1), Some(9));
    }
}
