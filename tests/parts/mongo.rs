//! MongoDB: what the majority has journaled survives SIGKILL; silent while paused.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use mongodb::bson::{Document, doc};

use crate::support::servers::{Members, Mongo, Proxy, mongo::direct, unique};

fn insert(id: i32) -> Document {
    doc! { "insert": "things", "documents": [{ "_id": id }], "writeConcern": { "w": "majority", "j": true } }
}

fn count(mongo: &Mongo) -> i32 {
    mongo.command("test", doc! { "count": "things" }).get_i32("n").unwrap()
}

#[test]
fn a_replica_set_survives_a_kill_with_its_data() {
    let mut mongo = Mongo::private();
    assert_eq!(mongo.command("admin", doc! { "hello": 1 }).get_str("setName").unwrap(), "rs0");
    mongo.command("test", insert(1));
    let (before, port) = (mongo.id(), mongo.port());
    mongo.kill();
    mongo.restart();
    assert_eq!(count(&mongo), 1);
    mongo.command("test", insert(2));
    assert_eq!(count(&mongo), 2);
    assert_eq!(mongo.port(), port);
    assert_ne!(mongo.id(), before);
}

#[test]
fn a_standalone_is_no_replica_set() {
    let mongo = Mongo::standalone();
    assert!(mongo.command("admin", doc! { "hello": 1 }).get_str("setName").is_err());
    mongo.command("test", doc! { "insert": "things", "documents": [{ "_id": 1 }] });
    assert_eq!(count(&mongo), 1);
}

#[test]
fn a_paused_replica_set_is_silent_and_then_answers() {
    let mongo = Mongo::private();
    mongo.pause();
    let (answered, answer) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| answered.send(mongo.command("test", insert(1))));
        assert_eq!(answer.recv_timeout(Duration::from_millis(500)), Err(RecvTimeoutError::Timeout));
        mongo.resume();
        assert_eq!(answer.recv().unwrap().get_i32("n").unwrap(), 1);
    });
}

#[test]
fn a_direct_connection_stays_behind_its_proxy() {
    let mongo = Mongo::start();
    let (name, address) = (unique(), mongo.command("admin", doc! { "hello": 1 }));
    let proxy = Proxy::start(address.get_str("me").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = mongodb::Client::with_uri_str(direct(&proxy.address())).await.unwrap();
        let things = client.database(&name).collection::<Document>("things");
        things.insert_one(doc! { "_id": 1 }).await.unwrap();
        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
        client.database(&name).drop().await.unwrap();
    });
    assert!(proxy.accepted() > 0);
}

#[actix::test]
async fn it_can_be_started_in_the_middle_of_a_runtime() {
    let mongo = Mongo::standalone();
    assert_eq!(mongo.command("admin", doc! { "ping": 1 }).get_f64("ok").unwrap(), 1.0);
}

#[test]
fn a_set_of_three_has_another_primary_when_one_steps_down_or_dies() {
    let mut members = Members::start();
    let first = members.primary();
    members.step_down();
    assert_ne!(members.primary(), first);
    let killed = members.kill_primary();
    assert_ne!(members.primary(), killed);
    members.restart(killed);
    members.wait_whole();
}
