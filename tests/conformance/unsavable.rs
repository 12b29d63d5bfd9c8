//! States that MongoDB will never take: the commit that brings one is refused for good, and every other of
//! its group is written.

use greenroom::backend::{Refused, Sent, StateWrite};
use mongodb::bson::{Bson, Document, doc, serialize_to_vec};

use super::*;

/// Runs `play` on each store that saves states in MongoDB, with the lease of every partition.
fn on_mongodb<F: Future<Output = ()>>(play: impl Fn(Arc<dyn Backend>, Vec<Lease>) -> F) {
    each(|backend| {
        let played = backend.mongo().is_some().then_some(&play);
        async move {
            let Some(play) = played else { return };
            let mut leases = Vec::new();
            for partition in 0..4 {
                leases.push(take(&backend, partition).await);
            }
            play(backend, leases).await;
        }
    });
}

/// A message to each of these keys of one partition, handled with the state given.
async fn handled(backend: &Arc<dyn Backend>, lease: Lease, states: Vec<(String, Document)>) -> Vec<Commit> {
    let mut after = start(lease.partition);
    let mut commits = Vec::new();
    for (to, state) in states {
        append(backend, message(&to, "1")).await;
        let stored = first(backend, lease.partition, after).await;
        after = stored.position;
        let mut all = commit(&to);
        all.state = Some(StateWrite { from: 0, doc: serialize_to_vec(&state).unwrap(), fields: Vec::new() });
        all.done.push(done(&stored));
        commits.push(all);
    }
    commits
}

/// Some actors of one partition.
fn actors(partition: u16) -> impl Iterator<Item = String> {
    (0..).map(|n| format!("thing/k{n}")).filter(move |name| address(name).partition(4) == partition)
}

fn small() -> Document {
    doc! { "state": { "total": 1 } }
}

/// The third of five commits has this state: what it is refused with.
async fn only_one_refused(backend: &Arc<dyn Backend>, lease: Lease, guilty: Document) -> (&'static str, String) {
    let states = actors(lease.partition).take(5).enumerate();
    let states = states.map(|(n, to)| (to, if n == 2 { guilty.clone() } else { small() })).collect();
    let commits = handled(backend, lease, states).await;
    let mut answers = backend.commit(lease, commits.clone().into()).await;
    let refused = answers.remove(2);
    assert_eq!(answers, [Ok(()), Ok(()), Ok(()), Ok(())]);
    let Err(Refused::Unsavable { code, why }) = refused else { panic!("{refused:?}") };
    let left = backend.read(lease.partition, start(lease.partition), 10).await.unwrap();
    let waiting = commits[2].done[0].position;
    assert_eq!(left.iter().map(|stored| stored.position).collect::<Vec<_>>(), [waiting], "of it nothing happened");
    // What its command becomes, without the state.
    let mut fails = commits[2].clone();
    fails.state = None;
    assert_eq!(backend.commit(lease, vec![fails].into()).await, [Ok(())]);
    (code, why)
}

fn nested(depth: usize) -> Document {
    let inner = (0..depth).fold(Bson::Int32(1), |inner, _| doc! { "a": inner }.into());
    doc! { "state": inner }
}

#[test]
fn a_state_nested_too_deep_is_refused_alone_even_where_mongodb_refuses_the_whole_group() {
    for depth in [185, 250, 1000] {
        on_mongodb(|backend, leases| async move {
            let (code, why) = only_one_refused(&backend, leases[1], nested(depth)).await;
            assert_eq!(code, "state_unsavable");
            assert!(why.contains("depth"), "{why}");
        });
    }
}

#[test]
fn what_a_validator_or_an_index_refuses_is_refused_with_what_mongodb_says() {
    on_mongodb(|backend, leases| async move {
        let db = backend.mongo().unwrap();
        let index = doc! { "createIndexes": "thing", "indexes": [
            { "key": { "state.x": 1, "state.y": 1 }, "name": "pairs" },
            { "key": { "state.place": "2dsphere" }, "name": "places" },
        ] };
        db.run_command(index).await.unwrap();
        let limit = doc! { "collMod": "thing", "validator": { "state.total": { "$not": { "$gt": 100 } } } };
        db.run_command(limit).await.unwrap();
        let refused = [
            (doc! { "x": [1, 2], "y": [3] }, "parallel arrays"),
            (doc! { "place": "home" }, "geo"),
            (doc! { "total": 200 }, "validation"),
        ];
        for (lease, (state, says)) in leases.into_iter().zip(refused) {
            let (code, why) = only_one_refused(&backend, lease, doc! { "state": state }).await;
            assert_eq!(code, "state_unsavable");
            assert!(why.contains(says), "{why}");
        }
    });
}

#[test]
fn a_value_that_another_actor_has_in_a_unique_index_is_no_lost_race() {
    on_mongodb(|backend, leases| async move {
        let unique = doc! { "createIndexes": "thing", "indexes": [{
            "key": { "state.email": 1 }, "name": "one_email", "unique": true,
            "partialFilterExpression": { "state.email": { "$exists": true } },
        }] };
        backend.mongo().unwrap().run_command(unique).await.unwrap();
        let ann = doc! { "state": { "email": "ann@example.org" } };
        let first = handled(&backend, leases[0], vec![(actors(0).next().unwrap(), ann.clone())]).await;
        assert_eq!(backend.commit(leases[0], first.into()).await, [Ok(())]);
        let (code, why) = only_one_refused(&backend, leases[1], ann).await;
        assert_eq!(code, "state_unsavable");
        assert_eq!(
            why,
            "MongoDB refuses the state: another thing has the same state.email, and the index one_email is unique"
        );
    });
}

#[test]
fn a_state_too_large_with_what_its_commit_sends_is_refused_and_large_ones_do_not_hurt_each_other() {
    on_mongodb(|backend, leases| async move {
        let lease = leases[2];
        let large = |mib: usize| doc! { "state": { "text": "x".repeat(mib << 20) } };
        let states = actors(2).zip([10, 10, 10, 15]).map(|(to, mib)| (to, large(mib))).collect();
        let mut commits = handled(&backend, lease, states).await;
        for n in 0..3 {
            let letter = envelope(&actors(3).nth(n).unwrap(), &format!("{:?}", "y".repeat(1 << 20)));
            commits[3].outbox.push(Sent { envelope: letter.into(), due: None });
        }
        let mut answers = backend.commit(lease, commits.into()).await;
        let refused = answers.pop().unwrap();
        assert_eq!(answers, [Ok(()), Ok(()), Ok(())]);
        let Err(Refused::Unsavable { code, why }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, "state_too_large", "{why}");
    });
}

#[test]
fn the_largest_state_that_is_promised_can_be_saved() {
    on_mongodb(|backend, leases| async move {
        let text = |bytes: usize| doc! { "state": { "text": "x".repeat(bytes) } };
        let around = serialize_to_vec(&text(0)).unwrap().len();
        let (to, largest) = (actors(0).next().unwrap(), text(backend.state_limit() - around));
        assert_eq!(serialize_to_vec(&largest).unwrap().len(), backend.state_limit());
        let mut commits = handled(&backend, leases[0], vec![(to.clone(), largest.clone())]).await;
        assert_eq!(backend.commit(leases[0], commits.clone().into()).await, [Ok(())]);
        let mut again = commit(&to);
        again.state = commits.pop().unwrap().state.map(|state| StateWrite { from: 1, ..state });
        assert_eq!(backend.commit(leases[0], vec![again].into()).await, [Ok(())]);
        assert_eq!(backend.load(vec![address(&to)]).await.unwrap()[0].rev, 2);
    });
}

#[test]
fn nothing_in_a_state_is_read_as_a_command_to_mongodb() {
    on_mongodb(|backend, leases| async move {
        let state = doc! { "state": {
            "$set": { "rev": "$rev" }, "a.b": "$$ROOT", "$literal": 5, "": 1, "$ref": "x", "$id": 3,
            "list": [{ "$add": [1, 2] }, "$$d"], "$$d": "$$REMOVE",
        } };
        let to = actors(0).next().unwrap();
        let mut commits = handled(&backend, leases[0], vec![(to.clone(), state.clone())]).await;
        assert_eq!(backend.commit(leases[0], commits.clone().into()).await, [Ok(())]);
        let mut again = commit(&to);
        again.state = commits.pop().unwrap().state.map(|state| StateWrite { from: 1, ..state });
        assert_eq!(backend.commit(leases[0], vec![again].into()).await, [Ok(())]);
        let loaded = backend.load(vec![address(&to)]).await.unwrap().remove(0);
        assert_eq!((loaded.rev, loaded.doc), (2, serialize_to_vec(&state).unwrap()));
    });
}

#[test]
fn what_would_keep_an_actor_from_being_forgotten_is_refused_at_the_start() {
    on_mongodb(|backend, _| async move {
        let run = async |command: Document| drop(backend.mongo().unwrap().run_command(command).await.unwrap());
        let refused = async || backend.declare("thing", true, &[]).await.unwrap_err();
        let unique = |more: Document| {
            let mut index = doc! { "key": { "state.email": 1 }, "name": "one_email", "unique": true };
            index.extend(more);
            doc! { "createIndexes": "thing", "indexes": [index] }
        };
        run(unique(doc! {})).await;
        let error = refused().await;
        assert!(error.is_terminal() && error.has_code("bad_index"), "{error}");
        run(doc! { "dropIndexes": "thing", "index": "one_email" }).await;
        run(unique(doc! { "partialFilterExpression": { "state": { "$exists": true } } })).await;
        backend.declare("thing", true, &[]).await.unwrap();

        run(doc! { "collMod": "thing", "validator": { "state": { "$exists": true } } }).await;
        let error = refused().await;
        assert!(error.is_terminal() && error.has_code("bad_validator"), "{error}");
        let or = doc! { "$or": [{ "state": { "$exists": false } }, { "state.total": { "$gt": 0 } }] };
        run(doc! { "collMod": "thing", "validator": or }).await;
        backend.declare("thing", true, &[]).await.unwrap();
    });
}
