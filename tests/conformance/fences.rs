//! Fencing tokens: a holder of a lock cannot append where a newer one has.

use greenroom::backend::{
    Fence, Idempotency, NotAppended,
    cluster::{Cluster, Resize},
    message::FENCED,
};

use super::*;

fn fenced(to: &str, lock: &str, token: u64) -> Append {
    Append { fence: Some(Fence { lock: lock.into(), token }), ..message(to, "1") }
}

async fn one(backend: &Arc<dyn Backend>, append: Append) -> Result<Appended, NotAppended> {
    backend.append(vec![append]).await.pop().unwrap()
}

/// What a store must do with tokens that rise and tokens that fall.
pub(super) async fn kept_in_order(backend: &Arc<dyn Backend>) {
    const NEWER: u64 = 176_722_560_000_000;
    let refused = Err(NotAppended::Fenced { newest: NEWER });
    let before = backend.audit().await.unwrap().accepted;
    for token in [NEWER - 1, NEWER - 1, NEWER, NEWER] {
        assert!(matches!(one(backend, fenced("thing/a", "import", token)).await, Ok(Appended::New(_))), "{token}");
    }
    assert_eq!(one(backend, fenced("thing/a", "import", NEWER - 1)).await, refused);
    // In one batch too, and what is refused does not stop the others.
    let batch = vec![fenced("thing/a", "import", 1), message("thing/a", "2"), fenced("thing/a", "import", NEWER)];
    let answers = backend.append(batch).await;
    assert_eq!(answers[0], refused);
    assert!(answers[1..].iter().all(Result::is_ok), "{answers:?}");
    // Another lock has holders of its own, and a mailbox where no newer one has written does not know of one.
    let elsewhere =
        (0..).map(|n| format!("thing/{n}")).find(|to| address(to).partition(4) != address("thing/a").partition(4));
    for append in [fenced("thing/a", "export", 1), fenced(&elsewhere.unwrap(), "import", 1)] {
        assert!(matches!(one(backend, append).await, Ok(Appended::New(_))));
    }
    let audit = backend.audit().await.unwrap();
    assert_eq!((audit.accepted - before, audit.balanced), (8, true), "{audit:?}");
}

#[test]
fn an_older_holder_is_refused_where_a_newer_one_has_written() {
    each(|backend| async move { kept_in_order(&backend).await });
}

#[test]
fn what_was_accepted_before_is_answered_whatever_its_token_is_worth_now() {
    each(|backend| async move {
        let idempotency = Idempotency { key: "k".into(), fingerprint: 1, answer: "one".into(), expires: NOW + 1000 };
        let first = Append { idempotency: Some(idempotency), ..fenced("thing/a", "import", 5) };
        let Ok(Appended::New(position)) = one(&backend, first.clone()).await else { panic!("not new") };
        assert!(one(&backend, fenced("thing/a", "import", 6)).await.is_ok());
        assert_eq!(one(&backend, first).await, Ok(Appended::Seen(position, "one".into())));
    });
}

#[test]
fn what_is_refused_makes_nobody_the_newest_holder() {
    each(|backend| async move {
        let big = format!("\"{}\"", "x".repeat(2 * BUDGET as usize));
        let full = Append { envelope: envelope("thing/a", &big), ..fenced("thing/a", "import", 9) };
        assert!(matches!(one(&backend, full).await, Err(NotAppended::Full { .. })));
        assert!(one(&backend, fenced("thing/a", "import", 5)).await.is_ok());
    });
}

#[test]
fn a_holder_is_remembered_for_a_day_after_its_last_append_and_a_deferred_one_counts() {
    each(|backend| async move {
        take(&backend, address("thing/a").partition(4)).await;
        let later = Append { due: Some(NOW + 1000), ..fenced("thing/a", "import", 6) };
        assert!(one(&backend, later).await.is_ok());
        backend.expire(0, NOW + FENCED - 1).await.unwrap();
        assert_eq!(one(&backend, fenced("thing/a", "import", 5)).await, Err(NotAppended::Fenced { newest: 6 }));
        backend.expire(0, NOW + FENCED).await.unwrap();
        assert!(one(&backend, fenced("thing/a", "import", 5)).await.is_ok());
    });
}

#[test]
fn after_a_resize_an_older_holder_is_refused_wherever_its_messages_go_now() {
    for which in Which::ALL.into_iter().filter(|which| *which != Which::Embedded) {
        println!("against {which:?}");
        let lease = std::time::Duration::from_millis(300);
        let embedded = Options { partitions: 4, mailbox_bytes: BUDGET };
        let mut options = greenroom::backend::cluster::Options { lease, ..which.cluster(&embedded).unwrap() };
        actix::System::new().block_on(async {
            let store: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
            for n in 0..8 {
                assert!(one(&store, fenced(&format!("thing/{n}"), "import", 6)).await.is_ok());
            }
            assert!(one(&store, fenced("thing/0", "export", 3)).await.is_ok());
            drop(store);
            for to in [16, 2] {
                Cluster::resize(options.clone(), Resize::new(to, vec![("thing".into(), true)])).unwrap();
                options.partitions = to;
                let store: Arc<dyn Backend> = Arc::new(Cluster::open(options.clone()).unwrap());
                for n in 0..8 {
                    let to = format!("thing/{n}");
                    assert_eq!(one(&store, fenced(&to, "import", 5)).await, Err(NotAppended::Fenced { newest: 6 }));
                    assert_eq!(one(&store, fenced(&to, "export", 2)).await, Err(NotAppended::Fenced { newest: 3 }));
                }
            }
        });
    }
}
