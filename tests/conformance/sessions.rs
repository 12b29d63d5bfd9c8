//! Sessions: what is there, what is over, what two at once may do to each other.

use greenroom::backend::sessions::{
    ChangedSession, Former, FoundSession, Issued, OpenedSession, SessionKey, SessionName, SessionRecord, Use, drawer_of,
};

use super::*;

const HOUR: i64 = 3_600_000;

fn key(user: &str, name: u8) -> SessionKey {
    SessionKey { drawer: drawer_of(user), name: SessionName([name; 12]) }
}

/// Of a user, opened at `created`, idle for an hour and over after ten.
fn record(user: &str, created: i64) -> SessionRecord {
    SessionRecord {
        user: (!user.is_empty()).then(|| user.to_owned()),
        created,
        seen: created,
        until: created + HOUR,
        ends: created + 10 * HOUR,
        rev: 1,
        agent: "Browser 1.0".into(),
        data: b"{\"cart\":2}".to_vec(),
        issued: Issued { digest: [200; 16], at: created, former: None },
    }
}

fn used(now: i64) -> Use {
    Use { now, until: now + HOUR }
}

async fn open(backend: &Arc<dyn Backend>, user: &str, name: u8, created: i64) -> SessionRecord {
    let record = record(user, created);
    let opened = backend.open_session(key(user, name), record.clone(), 100, None).await.unwrap();
    assert_eq!(opened, OpenedSession::Opened(0));
    record
}

async fn names(backend: &Arc<dyn Backend>, user: &str, now: i64) -> Vec<u8> {
    let found = backend.sessions_of(user.to_owned(), now).await.unwrap();
    found.into_iter().map(|(name, _)| name.0[0]).collect()
}

#[test]
fn a_session_is_found_as_it_was_opened_until_it_is_over() {
    each(|backend| async move {
        for (user, name) in [("ann", 1), ("", 2), ("ä/{b}:c", 255)] {
            let record = open(&backend, user, name, NOW).await;
            let found = |now| backend.session(key(user, name), now);
            assert_eq!(found(NOW + HOUR - 1).await.unwrap(), FoundSession::Live(record));
            assert_eq!(found(NOW + HOUR).await.unwrap(), FoundSession::Nothing, "nobody has used it");
            assert_eq!(backend.session(key(user, 99), NOW).await.unwrap(), FoundSession::Nothing);
        }
        // Using it keeps it, until then; what is over is not brought back.
        assert!(backend.touch_session(key("ann", 1), used(NOW + HOUR - 1)).await.unwrap());
        let FoundSession::Live(kept) = backend.session(key("ann", 1), NOW + 2 * HOUR - 2).await.unwrap() else {
            panic!("not kept")
        };
        assert_eq!((kept.seen, kept.until), (NOW + HOUR - 1, NOW + 2 * HOUR - 1));
        assert!(!backend.touch_session(key("ann", 1), used(NOW + 2 * HOUR - 1)).await.unwrap());
        assert_eq!(backend.session(key("ann", 1), NOW + 2 * HOUR - 1).await.unwrap(), FoundSession::Nothing);
    });
}

#[test]
fn of_two_who_write_at_once_the_second_is_told_what_the_first_wrote() {
    each(|backend| async move {
        open(&backend, "ann", 1, NOW).await;
        let write =
            |rev, data: &str| backend.write_session(key("ann", 1), rev, data.as_bytes().to_vec(), used(NOW + 5));
        assert_eq!(write(1, "{\"a\":1}").await.unwrap(), ChangedSession::Changed);
        let ChangedSession::Conflict(now) = write(1, "{\"b\":1}").await.unwrap() else { panic!("no conflict") };
        assert_eq!((now.rev, now.data.as_slice(), now.seen), (2, b"{\"a\":1}".as_slice(), NOW + 5));
        assert_eq!(write(2, "{}").await.unwrap(), ChangedSession::Changed);
        let gone = backend.write_session(key("ann", 1), 3, b"{}".to_vec(), used(NOW + 2 * HOUR)).await.unwrap();
        assert_eq!(gone, ChangedSession::Gone);
        assert_eq!(backend.write_session(key("ann", 2), 1, Vec::new(), used(NOW)).await.unwrap(), ChangedSession::Gone);
    });
}

#[test]
fn a_secret_is_replaced_once_and_the_one_before_is_known() {
    each(|backend| async move {
        open(&backend, "ann", 1, NOW).await;
        let issued = |digest, former: Option<u8>| {
            // Bytes that are no text, too.
            let former = former.map(|old| Former { digest: [old; 16], nonce: [0xff; 16], until: NOW + 60 });
            Issued { digest: [digest; 16], at: NOW + 1, former }
        };
        let renew = |old: u8, new| backend.renew_session(key("ann", 1), [old; 16], new, used(NOW + 1));
        let first = issued(201, Some(200));
        assert_eq!(renew(200, first).await.unwrap(), ChangedSession::Changed);
        let ChangedSession::Conflict(now) = renew(200, issued(202, Some(200))).await.unwrap() else {
            panic!("renewed twice")
        };
        assert_eq!(now.issued, first);
        // For good: nothing is known of the one before.
        assert_eq!(renew(201, issued(7, None)).await.unwrap(), ChangedSession::Changed);
        let FoundSession::Live(now) = backend.session(key("ann", 1), NOW + 1).await.unwrap() else { panic!("gone") };
        assert_eq!((now.issued, now.rev, now.data.as_slice()), (issued(7, None), 1, b"{\"cart\":2}".as_slice()));
        assert_eq!(names(&backend, "ann", NOW).await, [1]);
        let gone = backend.renew_session(key("ann", 2), [7; 16], issued(8, None), used(NOW)).await.unwrap();
        assert_eq!(gone, ChangedSession::Gone);
    });
}

#[test]
fn one_is_ended_by_its_own_user_only_and_remembered_for_a_moment() {
    each(|backend| async move {
        let record = open(&backend, "ann", 1, NOW).await;
        open(&backend, "ann", 2, NOW).await;
        let end = |user: Option<&str>, mark| backend.end_session(key("ann", 1), user.map(str::to_owned), mark, NOW);
        assert_eq!(end(Some("bob"), 0).await.unwrap(), None);
        assert_eq!(end(None, 50).await.unwrap(), Some(record));
        assert_eq!(end(None, 50).await.unwrap(), None);
        assert_eq!(backend.session(key("ann", 1), NOW + 49).await.unwrap(), FoundSession::Replaced);
        assert_eq!(backend.session(key("ann", 1), NOW + 50).await.unwrap(), FoundSession::Nothing);
        assert!(!backend.touch_session(key("ann", 1), used(NOW)).await.unwrap());
        let late = backend.write_session(key("ann", 1), 1, b"{}".to_vec(), used(NOW)).await.unwrap();
        assert_eq!(late, ChangedSession::Gone, "what was given up is not written");
        assert_eq!(names(&backend, "ann", NOW).await, [2]);
        assert!(backend.end_session(key("ann", 2), Some("ann".into()), 0, NOW).await.unwrap().is_some());
        assert_eq!(backend.session(key("ann", 2), NOW).await.unwrap(), FoundSession::Nothing);
    });
}

#[test]
fn all_of_a_user_end_at_once_and_no_login_of_the_era_before_comes_after() {
    each(|backend| async move {
        for name in 1..=3 {
            open(&backend, "ann", name, NOW + i64::from(name)).await;
        }
        open(&backend, "bob", 4, NOW).await;
        let era = backend.session_era("ann".into()).await.unwrap();
        assert_eq!(backend.end_sessions("ann".into(), Some(SessionName([2; 12])), NOW + 9).await.unwrap(), 2);
        assert_eq!((names(&backend, "ann", NOW + 9).await, names(&backend, "bob", NOW + 9).await), (vec![2], vec![4]));
        let late = |era| backend.open_session(key("ann", 5), record("ann", NOW + 10), 100, era);
        assert_eq!(late(Some(era)).await.unwrap(), OpenedSession::Revoked);
        assert_eq!(backend.session(key("ann", 5), NOW + 10).await.unwrap(), FoundSession::Nothing);
        let present = backend.session_era("ann".into()).await.unwrap();
        assert_ne!(present, era);
        assert_eq!(late(Some(present)).await.unwrap(), OpenedSession::Opened(0));
        // By a clock that is behind, and once more in the same moment: an era is never the same again.
        assert_eq!(backend.end_sessions("ann".into(), None, NOW).await.unwrap(), 2);
        assert_eq!(backend.end_sessions("ann".into(), None, NOW).await.unwrap(), 0);
        assert_eq!(backend.session_era("ann".into()).await.unwrap(), present + 2);
        assert_eq!(backend.session_era("bob".into()).await.unwrap(), 0);
    });
}

#[test]
fn beyond_the_bound_the_oldest_goes_and_what_is_over_does_not_count() {
    each(|backend| async move {
        for (name, created) in [(1, NOW + 2), (2, NOW + 1), (3, NOW + 3)] {
            open(&backend, "ann", name, created).await;
        }
        let more = |name, created| backend.open_session(key("ann", name), record("ann", created), 3, None);
        assert_eq!(more(4, NOW + 4).await.unwrap(), OpenedSession::Opened(1));
        assert_eq!(names(&backend, "ann", NOW + 4).await, [1, 3, 4]);
        assert_eq!(backend.session(key("ann", 2), NOW + 4).await.unwrap(), FoundSession::Nothing);
        // The others are over by now.
        assert!(backend.touch_session(key("ann", 3), used(NOW + 1000)).await.unwrap());
        assert_eq!(more(5, NOW + HOUR + 500).await.unwrap(), OpenedSession::Opened(0));
        assert_eq!(names(&backend, "ann", NOW + HOUR + 500).await, [3, 5]);
        // The bound was lowered.
        let lower = backend.open_session(key("ann", 6), record("ann", NOW + HOUR + 600), 1, None).await.unwrap();
        assert_eq!(lower, OpenedSession::Opened(2));
        let listed = backend.sessions_of("ann".into(), NOW + HOUR + 600).await.unwrap();
        let expected = SessionRecord { data: Vec::new(), ..record("ann", NOW + HOUR + 600) };
        assert_eq!(listed, [(SessionName([6; 12]), expected)]);
    });
}

#[test]
fn nobodys_sessions_are_bounded_in_each_drawer() {
    each(|backend| async move {
        let nobody = |name: u8| SessionKey { drawer: u16::from(name / 100), name: SessionName([name; 12]) };
        let open = |name: u8| backend.open_session(nobody(name), record("", NOW + i64::from(name)), 20, None);
        for name in (1..=20).chain(101..=120) {
            assert_eq!(open(name).await.unwrap(), OpenedSession::Opened(0), "{name}");
        }
        assert_eq!(open(21).await.unwrap(), OpenedSession::Opened(3), "one, and a tenth of all");
        for (name, live) in [(1, false), (3, false), (4, true), (21, true), (101, true)] {
            let found = backend.session(nobody(name), NOW + 200).await.unwrap();
            assert_eq!(matches!(found, FoundSession::Live(_)), live, "{name}");
        }
        // What was replaced is only remembered.
        assert!(backend.end_session(nobody(4), None, 50, NOW + 200).await.unwrap().is_some());
        for name in 22..=24 {
            assert_eq!(open(name).await.unwrap(), OpenedSession::Opened(0), "{name}");
        }
        assert_eq!(open(25).await.unwrap(), OpenedSession::Opened(3));
    });
}

/// Redis removes by itself what is over; the file is swept.
#[test]
fn what_is_over_leaves_nothing_behind_in_the_file() {
    let data = tempfile::tempdir().unwrap();
    let store: Arc<dyn Backend> =
        Arc::new(Embedded::open(data.path(), Options { partitions: 4, mailbox_bytes: BUDGET }).unwrap());
    let rows = |table: &str| -> i64 {
        let db = rusqlite::Connection::open(data.path().join("greenroom.db")).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    actix::System::new().block_on(async {
        for name in 1..=3 {
            open(&store, "ann", name, NOW).await;
        }
        store.end_session(key("ann", 2), None, 50, NOW).await.unwrap();
        store.end_sessions("bob".into(), None, NOW).await.unwrap();
        store.touch_session(key("ann", 3), used(NOW + 1)).await.unwrap();
        store.expire(0, NOW + 50).await.unwrap();
        assert_eq!((rows("sessions"), rows("session_eras")), (2, 1));
        store.expire(0, NOW + HOUR).await.unwrap();
        assert_eq!((rows("sessions"), rows("session_eras")), (1, 0));
        assert_eq!(names(&store, "ann", NOW + HOUR).await, [3]);
    });
}
