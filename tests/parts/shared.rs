//! The servers that all tests share are there and are what they are said to be.

use std::{
    io::{BufRead, BufReader, Write},
    time::Duration,
};

use mongodb::bson::{Document, doc};

use crate::{
    support::servers::{Which, shared, unique},
    tcp,
};

/// The first line of what the server at `address` answers to a command.
fn ask(address: &str, command: &str) -> String {
    let mut stream = tcp::connect(address, Duration::from_secs(30));
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn redis_and_valkey_answer() {
    for which in [Which::Redis, Which::Valkey] {
        let url = shared(which);
        let address = url.strip_prefix("redis://").unwrap();
        let key = unique();
        assert_eq!(ask(address, &format!("SET {key} 1 EX 60")), "+OK", "{which:?}");
        assert_eq!(ask(address, &format!("DEL {key}")), ":1", "{which:?}");
    }
}

#[test]
fn the_cluster_answers() {
    let url = shared(Which::Cluster);
    let key = unique();
    let answers: Vec<String> = url
        .strip_prefix("redis-cluster://")
        .unwrap()
        .split(',')
        .map(|address| ask(address, &format!("SET {key} 1 EX 60")))
        .collect();
    assert_eq!(answers.len(), 3, "{url}");
    assert_eq!(answers.iter().filter(|answer| *answer == "+OK").count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.starts_with("-MOVED")).count(), 2, "{answers:?}");
}

#[actix::test]
async fn mongodb_answers() {
    let client = mongodb::Client::with_uri_str(shared(Which::Mongo)).await.unwrap();
    let database = client.database(&unique());
    let things = database.collection::<Document>("things");
    things.insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
    database.drop().await.unwrap();
}

#[test]
fn names_are_unique_and_fit() {
    let (one, two) = (unique(), unique());
    assert_ne!(one, two);
    assert!(one.len() < 38 && one.chars().all(|c| c.is_ascii_alphanumeric()), "{one}");
}
