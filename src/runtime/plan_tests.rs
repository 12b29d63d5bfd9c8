//! A table of situations, in instants that nobody waits for.

use super::*;
use crate::{backend::NodeInfo, runtime::assign::owner};

const LEASE: Duration = Duration::from_secs(6);
const ME: u64 = 1;

fn times() -> Times {
    Times::of(LEASE)
}

fn member(id: u64, beat: u64) -> Member {
    Member { id, beat, info: NodeInfo::default() }
}

/// What a node with these partitions decides among `ids`, all of which beat.
fn among(ids: &[u64], standing: &[Standing]) -> Plan {
    let (now, members) = (Instant::now(), ids.iter().map(|id| member(*id, 1)).collect::<Vec<_>>());
    let mut sight = Sight::default();
    sight.see(&members, now);
    let situation =
        Situation { me: ME, members: &members, staying: ids, sight: &sight, standing, proof: now, draining: false };
    plan(&situation, times(), now)
}

/// The partitions below `count` that belong to `node`.
fn of(node: u64, ids: &[u64], count: u16) -> Vec<u16> {
    (0..count).filter(|partition| owner(ids, *partition) == Some(node)).collect()
}

#[test]
fn a_beat_is_a_twelfth_of_the_lease_within_bounds() {
    for (lease, beat) in [(100, 50), (600, 50), (1_200, 100), (6_000, 500), (60_000, 500)] {
        let times = Times::of(Duration::from_millis(lease));
        assert_eq!(times.beat, Duration::from_millis(beat), "{lease}");
    }
}

#[test]
fn the_only_node_opens_everything() {
    assert_eq!(among(&[ME], &[Standing::Vacant; 5]).open, [0, 1, 2, 3, 4]);
}

#[test]
fn a_node_opens_only_what_is_its_own_and_not_begun() {
    let (mine, count) = (of(ME, &[ME, 2], 64), 64);
    assert!(mine.len() > 20 && mine.len() < 44);
    assert_eq!(among(&[ME, 2], &[Standing::Vacant; 64]), Plan { open: mine.clone(), ..Plan::default() });
    for standing in [Standing::Opening, Standing::Closing] {
        assert_eq!(among(&[ME, 2], &vec![standing; count]), Plan::default(), "{standing:?}");
    }
    let mut some = [Standing::Vacant; 64];
    some[usize::from(mine[0])] = Standing::Open;
    assert_eq!(among(&[ME, 2], &some).open, mine[1..]);
}

#[test]
fn what_is_no_longer_its_own_is_handed_over_a_few_at_once() {
    let theirs = of(2, &[ME, 2], 64);
    let expected: Vec<(u16, u64)> = theirs.iter().take(AT_ONCE).map(|partition| (*partition, 2)).collect();
    let mut standing = [Standing::Open; 64];
    assert_eq!(among(&[ME, 2], &standing), Plan { hand_over: expected, ..Plan::default() });
    for partition in &theirs[..AT_ONCE - 1] {
        standing[usize::from(*partition)] = Standing::Closing;
    }
    assert_eq!(among(&[ME, 2], &standing).hand_over, [(theirs[AT_ONCE - 1], 2)]);
    standing[usize::from(theirs[AT_ONCE - 1])] = Standing::Closing;
    assert_eq!(among(&[ME, 2], &standing), Plan::default());
}

#[test]
fn what_this_build_declines_is_handed_over_and_not_opened_again() {
    let (now, mine) = (Instant::now(), of(ME, &[ME, 2], 64));
    let mut members = [member(ME, 1), member(2, 1)];
    members[1].info.build = Some("new".into());
    members[0].info.declines = mine[..2].to_vec();
    let decide = |members: &[Member], standing: Standing| {
        let mut sight = Sight::default();
        sight.see(members, now);
        let mut standings = [Standing::Opening; 64];
        mine.iter().for_each(|partition| standings[usize::from(*partition)] = standing);
        let standing = &standings;
        let situation =
            Situation { me: ME, members, staying: &[ME, 2], sight: &sight, standing, proof: now, draining: false };
        plan(&situation, times(), now)
    };
    let open = decide(&members, Standing::Open);
    assert_eq!((open.open, open.hand_over), (vec![], vec![(mine[0], 2), (mine[1], 2)]));
    assert_eq!(decide(&members, Standing::Vacant).open, mine[2..]);
    // The other one can read it no better.
    members[1].info.declines = mine[..1].to_vec();
    assert_eq!(decide(&members, Standing::Open).hand_over, [(mine[1], 2)]);
}

#[test]
fn a_node_that_leaves_is_assigned_nothing() {
    let (now, members) = (Instant::now(), [member(ME, 1), member(2, 1)]);
    let mut sight = Sight::default();
    sight.see(&members, now);
    let standing = [Standing::Vacant; 8];
    let mut situation = Situation {
        me: ME,
        members: &members,
        staying: &[ME],
        sight: &sight,
        standing: &standing,
        proof: now,
        draining: false,
    };
    assert_eq!(plan(&situation, times(), now).open.len(), 8);
    situation.draining = true;
    assert_eq!(plan(&situation, times(), now), Plan::default());
    // Both leave: what is open is let go of by draining, not by handing over to nobody.
    (situation.draining, situation.staying) = (false, &[]);
    assert_eq!(plan(&situation, times(), now), Plan::default());
}

#[test]
fn a_member_is_given_up_when_its_beat_has_not_changed_for_the_lease_time() {
    let began = Instant::now();
    let mut sight = Sight::default();
    let mut decide = |at: Duration, beat: u64| {
        let (now, members) = (began + at, [member(ME, 1), member(2, beat), member(3, at.as_millis() as u64)]);
        sight.see(&members, now);
        let situation = Situation {
            me: ME,
            members: &members,
            staying: &[ME, 2, 3],
            sight: &sight,
            standing: &[],
            proof: now,
            draining: false,
        };
        plan(&situation, times(), now).give_up
    };
    let tick = Duration::from_millis(1);
    assert_eq!(decide(Duration::ZERO, 7), []);
    assert_eq!(decide(LEASE - tick, 7), []);
    assert_eq!(decide(LEASE, 7), [member(2, 7)]);
    // It lives after all; its own silence begins anew.
    assert_eq!(decide(LEASE + tick, 8), []);
    assert_eq!(decide(LEASE * 2, 8), []);
    assert_eq!(decide(LEASE * 2 + tick, 8), [member(2, 8)]);
}

#[test]
fn the_next_look_is_when_somebody_would_be_silent_for_too_long() {
    let began = Instant::now();
    let mut sight = Sight::default();
    assert_eq!(sight.next(ME, LEASE, began), None);
    sight.see(&[member(ME, 1), member(2, 1)], began);
    let later = began + Duration::from_secs(1);
    sight.see(&[member(ME, 2), member(2, 1), member(3, 1)], later);
    assert_eq!(sight.next(ME, LEASE, later), Some(began + LEASE));
    assert_eq!(sight.next(ME, LEASE, began + LEASE), Some(later + LEASE));
    // Who has gone is forgotten, and so is how long it was silent.
    sight.see(&[member(ME, 3)], later);
    assert_eq!(sight.next(ME, LEASE, later), None);
}

#[test]
fn a_node_whose_proof_of_life_is_too_old_stops_and_does_nothing_else() {
    let began = Instant::now();
    let members = [member(ME, 1), member(2, 1)];
    let mut sight = Sight::default();
    sight.see(&members, began);
    let decide = |after: Duration, members: &[Member]| {
        let situation = Situation {
            me: ME,
            members,
            staying: &[ME],
            sight: &sight,
            standing: &[Standing::Open, Standing::Vacant],
            proof: began,
            draining: false,
        };
        plan(&situation, times(), began + after)
    };
    let lapse = LEASE - times().beat;
    assert_eq!(decide(lapse - Duration::from_millis(1), &members).open, [1]);
    let stop = Plan { abandon: true, ..Plan::default() };
    assert_eq!(decide(lapse, &members), stop);
    assert_eq!(decide(LEASE * 2, &members), stop);
    // Not among those who are there: given up.
    assert_eq!(decide(Duration::ZERO, &members[1..]), stop);
}

#[test]
fn a_dead_node_is_given_up_only_after_it_has_stopped_itself() {
    // The latest beat of a node was sent at 0 and seen by another at once: the earliest it can be.
    let sent = Instant::now();
    let mut sight = Sight::default();
    sight.see(&[member(ME, 1), member(2, 1)], sent);
    let given_up = sight.next(ME, LEASE, sent).unwrap();
    assert!(times().lapses(sent) + times().beat <= given_up);
}
