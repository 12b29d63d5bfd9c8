//! G13 honest: what cannot be promised is refused at start, or said in the answer, never hidden.

use std::path::Path;

use crate::support::{
    Server, eventually,
    server::{Setup, greenroom},
    servers::{Redis, RedisSetup, Which, shared, unique},
};

/// Starts a server that must refuse to serve, and returns what it says.
#[track_caller]
fn refusal(setup: &Setup) -> String {
    let (status, text) = setup.spawn().wait();
    assert_eq!(status.code(), Some(1), "{text}");
    text
}

#[test]
fn a_second_process_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::on(dir.path()).embedded().start();
    let said = refusal(&Setup::on(dir.path()).embedded());
    assert!(said.contains("in use by another process") && said.contains(&server.id().to_string()), "{said}");
    // The first is not disturbed, and its death frees the data at once.
    server.client().get("/readyz").expect(200);
    server.kill();
    Setup::on(dir.path()).embedded().start().client().get("/readyz").expect(200);
}

#[test]
fn another_number_of_partitions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Setup::on(dir.path()).embedded().start().terminate().success());
    let said = refusal(&Setup::on(dir.path()).embedded().set("store", "partitions", "8"));
    assert!(said.contains("16") && said.contains('8') && said.contains("partitions"), "{said}");
    assert!(Setup::on(dir.path()).embedded().start().terminate().success(), "and nothing was harmed");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("greenroom.db");
    std::fs::write(&file, "my holiday pictures, not a database at all").unwrap();
    let said = refusal(&Setup::on(dir.path()).embedded());
    assert!(said.contains("not a database"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "my holiday pictures, not a database at all");
}

#[test]
fn a_store_that_cannot_be_made_is_refused() {
    let said = refusal(&Setup::on(Path::new("/dev/null/data")).embedded());
    assert!(said.contains("/dev/null/data"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_refused() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(one.path());
    let address = server.base().strip_prefix("http://").unwrap().to_owned();
    let said = refusal(&Setup::on(other.path()).listen(&address));
    assert!(said.contains(&address), "{said}");
}

#[test]
fn a_key_that_is_not_known_is_refused_with_the_one_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(&Setup::on(dir.path()).set("orders", "ship_afer", "1s"));
    assert!(said.contains("ship_after"), "{said}");
    let said = refusal(&Setup::on(dir.path()).set("orders", "ship_after", "soon"));
    assert!(said.contains("GREENROOM_ORDERS__SHIP_AFTER"), "it names the source: {said}");
}

/// Beyond loopback `/admin` is closed without a token, and says so.
#[test]
fn administration_is_closed_where_nobody_can_be_known() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::on(dir.path()).start();
    let client = server.client();
    client.get("/admin/dead-letters").expect(200);
    let proxied = client.send("GET", "/admin/dead-letters", &[("x-forwarded-for", "192.0.2.1")], None).unwrap();
    assert!(proxied.expect(403).text.contains("admin"));
    drop(server);
    let server = Setup::on(dir.path()).set("admin", "token", "0123456789abcdef").start();
    let client = server.client();
    client.get("/admin/dead-letters").expect(401);
    let header = [("authorization", "Bearer 0123456789abcdef")];
    client.send("GET", "/admin/dead-letters", &header, None).unwrap().expect(200);
}

#[test]
fn an_audit_of_nothing_is_no_clean_audit() {
    let dir = tempfile::tempdir().unwrap();
    let output = greenroom(&["audit", "--data", dir.path().to_str().unwrap(), "--json"]);
    assert_ne!(output.status.code(), Some(0));
    let output = greenroom(&["audit", "--dta", "x"]);
    assert_eq!(output.status.code(), Some(2));
}

/// On this Redis and the MongoDB that tests share, under names of its own.
fn cluster_on(data: &Path, redis: &Redis) -> Setup {
    let name = unique();
    let store = Setup::on(data).embedded().set("store", "kind", "cluster").set("store", "mongo", &shared(Which::Mongo));
    store.set("store", "redis", &redis.url()).set("store", "prefix", &name).set("store", "database", &name)
}

fn order() -> serde_json::Value {
    serde_json::json!({"customer": "ann", "currency": "EUR", "lines": [{"sku": "tea", "quantity": 2, "unit_price": 450}]})
}

#[test]
fn what_a_replica_must_have_is_not_accepted_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (redis, replica) = (Redis::start(RedisSetup::redis()), Redis::start(RedisSetup::redis()));
    replica.cli(&["replicaof", "127.0.0.1", &redis.port().to_string()]);
    eventually("the replica follows", || {
        redis.try_cli(&["info", "replication"]).ok()?.contains("state=online").then_some(())
    });
    let server = cluster_on(dir.path(), &redis).set("store", "accept", "replicated").start();
    server.client().post("/orders", &order()).expect(202);
    replica.pause();
    server.client().post("/orders", &order()).expect(503);
    replica.resume();
    eventually("it accepts again", || (server.client().post("/orders", &order()).status == 202).then_some(()));
}

#[test]
fn a_disk_that_is_synced_each_second_and_not_waited_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // Its WAITAOF answers before the disk has the write.
    let valkey = Redis::start(RedisSetup::valkey().everysec());
    let said = refusal(&cluster_on(dir.path(), &valkey));
    assert!(said.contains("WAITAOF") && said.contains("`appendfsync always`"), "{said}");
    valkey.config_set("appendfsync", "always");
    let server = cluster_on(dir.path(), &valkey).start();
    let placed = server.client().post("/orders", &order()).expect(202).json();
    assert_eq!(server.client().ended(placed["request"].as_str().unwrap())["status"], "completed");
}

#[test]
fn a_redis_that_cannot_keep_what_is_promised_is_refused_with_the_line_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let on = |redis: &Redis| cluster_on(dir.path(), redis);
    let lax = Redis::start(RedisSetup::redis().everysec());
    let said = refusal(&on(&lax));
    assert!(said.contains("appendfsync always") && said.contains("store.accept"), "{said}");
    // Asked for less, it serves; and with the line changed, more.
    assert!(on(&lax).set("store", "accept", "memory").start().terminate().success());
    lax.config_set("appendfsync", "always");
    assert!(on(&lax).start().terminate().success());
    let forgetful = Redis::start(RedisSetup::redis().set("maxmemory-policy", "allkeys-lru"));
    let said = refusal(&on(&forgetful));
    assert!(said.contains("maxmemory-policy noeviction"), "{said}");
    let said = refusal(&on(&lax).set("store", "accept", "replicated"));
    assert!(said.contains("no replica"), "{said}");
}
