//! What is not of one key: results in several buckets, sessions, limits, pauses.

use std::time::Duration;

use greenroom::backend::{
    Done, Scope,
    cluster::Options,
    limits::{Enter, Measure, Name, Quota, Rate, Take},
    sessions::{Issued, OpenedSession, SessionKey, SessionName, SessionRecord, Use, drawer_of},
};
use serde_json::json;

use super::{address, append, commit, done, open, take};
use crate::{
    expected::{Expected, NOW},
    handled::message,
};

/// More messages than a bucket of results has, all ended, of which some results are kept.
pub(super) async fn bells(options: &Options) {
    let backend = open(options).await;
    let leases = take(&backend).await;
    let lease = leases[&address("bell/many").partition(4)];
    let mut count = 0_u32;
    let mut after = greenroom::envelope::Position::new(lease.partition, lease.last);
    for _ in 0..9 {
        backend.append((0..480).map(|n| message("bell/many", n)).collect()).await;
        let all = backend.read(lease.partition, after, 480).await.unwrap();
        assert_eq!(all.len(), 480);
        after = all[479].position;
        let ends = |stored| {
            count += 1;
            let mut ends = commit("bell/many");
            ends.done.push(Done { keep: count.is_multiple_of(40) || count > 4300, ..done(stored) });
            ends
        };
        let ends: Vec<_> = all.iter().map(ends).collect();
        assert!(backend.commit(lease, ends.into()).await.iter().all(Result::is_ok));
    }
    assert!(after.number() > 4096);
    for lease in leases.into_values() {
        backend.release(lease).await.unwrap();
    }
    backend.leave().await.unwrap();
}

/// Sessions, limits and pauses.
pub(super) async fn other(options: &Options, expected: &mut Expected) {
    let backend = open(options).await;
    const YEARS: i64 = 30 * 365 * 86_400_000;
    for (user, name) in [("ann", 1), ("ann", 2), ("bob", 3), ("cy", 4)] {
        let key = SessionKey { drawer: drawer_of(user), name: SessionName([name; 12]) };
        let record = SessionRecord {
            user: Some(user.to_owned()),
            created: NOW,
            seen: NOW,
            until: NOW + YEARS,
            ends: NOW + YEARS,
            rev: 1,
            agent: "Browser 1.0".into(),
            data: b"{\"cart\":2}".to_vec(),
            issued: Issued { digest: [200; 16], at: NOW, former: None },
        };
        assert_eq!(backend.open_session(key, record, 100, None).await.unwrap(), OpenedSession::Opened(0));
        if name == 2 {
            let used = Use { now: NOW + 5, until: NOW + YEARS };
            backend.write_session(key, 1, b"{\"cart\":3}".to_vec(), used).await.unwrap();
        }
    }
    backend.end_sessions("cy".into(), None, NOW).await.unwrap();
    expected.users = ["ann", "bob"].map(str::to_owned).to_vec();
    let rate = Measure::Rate(Rate::new(1, Duration::from_secs(86_400), 100).unwrap());
    let quota = Measure::Quota(Quota::new(10, Duration::from_secs(366 * 86_400)).unwrap());
    for (name, of) in [("rate", rate), ("quota", quota)] {
        let take = Take { name: Name::of(&[name]), of, cost: 3, ahead: 0, patience: 0 };
        assert!(backend.take_tokens(take, None).await.unwrap().allowed());
    }
    for holder in ["1-a", "1-b", "2-c"] {
        let (name, lease, patience) = (Name::of(&["permits"]), 30 * 86_400_000, 86_400_000);
        let enter = Enter { name, holder: holder.into(), most: 2, lease, since: None, patience };
        backend.enter_permit(enter, None).await.unwrap();
    }
    for scope in ["tally/paused", "bell"] {
        assert!(backend.pause(scope.parse::<Scope>().unwrap(), NOW).await.unwrap());
    }
    for command in [1, 2] {
        expected.open.push(append(&backend, message("tally/paused", command)).await.to_string());
    }
    expected.after.insert("tally/paused".into(), Some(json!([1, 2])));
    backend.leave().await.unwrap();
}
