//! Actors that are forgotten: nothing of them is found, what they begin anew is kept, and an owner of
//! before does not bring them back.

use greenroom::{
    Query,
    backend::{Refused, StateWrite, cluster::Cluster},
};
use mongodb::bson::{Document, doc};

use super::*;

async fn write(backend: &Arc<dyn Backend>, lease: Lease, from: u64, doc: Vec<u8>) -> Result<(), Refused> {
    let mut commit = commit("thing/a");
    commit.state = Some(StateWrite { from, doc, fields: vec![] });
    backend.commit(lease, vec![commit].into()).await.remove(0)
}

/// What is saved, and its revision.
async fn load(backend: &Arc<dyn Backend>) -> (u64, Vec<u8>) {
    let loaded = backend.load(vec![address("thing/a")]).await.unwrap().remove(0);
    (loaded.rev, loaded.doc)
}

#[test]
fn nothing_is_left_and_the_next_state_is_kept_whoever_knows_which_revision() {
    each(|backend| async move {
        let lease = take(&backend, address("thing/a").partition(4)).await;
        assert_eq!(write(&backend, lease, 0, saved("one")).await, Ok(()));
        assert_eq!(write(&backend, lease, 1, Vec::new()).await, Ok(()));
        assert_eq!(load(&backend).await.1, Vec::<u8>::new());
        assert!(backend.query("thing", Query::new()).await.unwrap().0.is_empty());
        // The activation is still in memory, and counts on.
        assert_eq!(write(&backend, lease, 2, saved("two")).await, Ok(()));
        assert_eq!(load(&backend).await, (3, saved("two")));
        assert_eq!(write(&backend, lease, 2, Vec::new()).await, Err(Refused::Stale));
        assert_eq!(write(&backend, lease, 3, Vec::new()).await, Ok(()));
        // It was let go, and what is loaded says where to begin.
        let (rev, doc) = load(&backend).await;
        assert!(doc.is_empty());
        assert_eq!(write(&backend, lease, rev, saved("three")).await, Ok(()));
        assert_eq!(load(&backend).await, (rev + 1, saved("three")));
    });
}

#[test]
fn an_owner_of_before_does_not_bring_it_back() {
    each(|backend| async move {
        let partition = address("thing/a").partition(4);
        let before = take(&backend, partition).await;
        assert_eq!(write(&backend, before, 0, saved("one")).await, Ok(()));
        let now = take(&backend, partition).await;
        assert_eq!(write(&backend, now, 1, Vec::new()).await, Ok(()));
        for from in 0..3 {
            assert_eq!(write(&backend, before, from, saved("late")).await, Err(Refused::Stale), "from {from}");
        }
        assert_eq!(load(&backend).await.1, Vec::<u8>::new());
    });
}

#[test]
fn what_is_left_in_mongodb_is_swept_once_its_commit_is_done() {
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    let cluster = Which::Redis.cluster(&options).unwrap();
    let cluster = greenroom::backend::cluster::Options { forget: std::time::Duration::ZERO, ..cluster };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(cluster).unwrap());
    actix::System::new().block_on(async {
        backend.join().await.unwrap();
        backend.beat().await.unwrap();
        backend.declare("thing", true, &[]).await.unwrap();
        let partition = address("thing/a").partition(4);
        let things = backend.mongo().unwrap().collection::<Document>("thing");
        let lease = take(&backend, partition).await;
        write(&backend, lease, 0, saved("one")).await.unwrap();
        write(&backend, lease, 1, Vec::new()).await.unwrap();
        // One of which the commit is not done: its message still waits.
        let waiting = append(&backend, message("thing/a", "1")).await;
        things.insert_one(doc! { "_id": "b", "rev": 2_i64, "epoch": 0_i64, "gone": NOW - 1, "witness": waiting.packed(), "redo": mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![0] } }).await.unwrap();
        // One that is not forgotten.
        things.insert_one(doc! { "_id": "c", "rev": 2_i64, "epoch": 0_i64, "state": "three" }).await.unwrap();
        for partition in 0..4 {
            take(&backend, partition).await;
        }
        backend.expire(0, NOW + 1).await.unwrap();
        let left = |key: &'static str| things.count_documents(doc! { "_id": key });
        assert_eq!((left("a").await.unwrap(), left("b").await.unwrap(), left("c").await.unwrap()), (0, 1, 1));
        // Its activation is still in memory, and counts on.
        let lease = take(&backend, partition).await;
        write(&backend, lease, 2, saved("two")).await.unwrap();
        assert_eq!(load(&backend).await, (3, saved("two")));
    });
}

#[test]
fn commands_that_save_nothing_leave_nothing_in_mongodb() {
    let options = Options { partitions: 4, mailbox_bytes: BUDGET };
    let cluster = Which::Redis.cluster(&options).unwrap();
    let cluster = greenroom::backend::cluster::Options { forget: std::time::Duration::ZERO, ..cluster };
    let backend: Arc<dyn Backend> = Arc::new(Cluster::open(cluster).unwrap());
    actix::System::new().block_on(async {
        backend.join().await.unwrap();
        backend.beat().await.unwrap();
        backend.declare("thing", true, &[]).await.unwrap();
        let things = backend.mongo().unwrap().collection::<Document>("thing");
        let mut leases = Vec::new();
        for partition in 0..4 {
            leases.push(take(&backend, partition).await);
        }
        // Payments of orders that do not exist.
        for n in 0..200 {
            let to = format!("thing/random{n}");
            let lease = leases[usize::from(address(&to).partition(4))];
            let position = append(&backend, message(&to, "1")).await;
            let stored = first(&backend, lease.partition, Position::new(lease.partition, position.number() - 1)).await;
            let mut none = commit(&to);
            none.done.push(done(&stored));
            assert_eq!(backend.commit(lease, vec![none].into()).await, [Ok(())]);
        }
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 200, "each is claimed");
        // One of them is made after all: then there is nothing to forget.
        let made = address("thing/random7");
        let lease = leases[usize::from(made.partition(4))];
        let mut makes = Commit::of(made.clone(), NOW);
        makes.state = Some(StateWrite { from: 0, doc: saved("made"), fields: vec![] });
        assert_eq!(backend.commit(lease, vec![makes].into()).await, [Ok(())]);
        assert_eq!(things.count_documents(doc! { "_id": "random7", "gone": { "$exists": true } }).await.unwrap(), 0);
        backend.expire(0, i64::MAX).await.unwrap();
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
        assert_eq!(backend.load(vec![made]).await.unwrap()[0].doc, saved("made"));
        // And one whose claim was forgotten.
        let late = address("thing/random8");
        let lease = leases[usize::from(late.partition(4))];
        let mut makes = Commit::of(late, NOW);
        makes.state = Some(StateWrite { from: 0, doc: saved("late"), fields: vec![] });
        assert_eq!(backend.commit(lease, vec![makes].into()).await, [Ok(())]);
    });
}
