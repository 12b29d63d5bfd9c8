//! Redis and Valkey: durable through SIGKILL, configured as said, silent while paused.

use std::{
    io::{BufRead, BufReader, Write},
    time::Duration,
};

use crate::{
    support::servers::{Pair, Proxy, Redis, RedisSetup},
    tcp,
};

fn survives_a_kill(setup: RedisSetup, version: &str) {
    let mut redis = Redis::start(setup);
    assert!(redis.cli(&["info", "server"]).contains(version), "{}", redis.cli(&["info", "server"]));
    for (option, value) in [("appendonly", "yes"), ("save", ""), ("maxmemory-policy", "noeviction")] {
        assert_eq!(redis.cli(&["config", "get", option]).lines().nth(1).unwrap_or_default(), value, "{option}");
    }
    let (before, port) = (redis.id(), redis.port());
    redis.cli(&["xadd", "stream", "*", "field", "value"]);
    redis.kill();
    assert!(redis.try_cli(&["ping"]).is_err());
    redis.restart();
    assert_eq!(redis.cli(&["xlen", "stream"]), "1");
    assert_eq!(redis.port(), port);
    assert_ne!(redis.id(), before);
}

#[test]
fn redis_survives_a_kill_with_its_data() {
    survives_a_kill(RedisSetup::redis(), "redis_version:7.");
}

#[test]
fn valkey_survives_a_kill_with_its_data() {
    survives_a_kill(RedisSetup::valkey(), "valkey_version:9.");
}

#[test]
fn redis_is_configured_as_said() {
    let redis = Redis::start(RedisSetup::redis().everysec().set("maxmemory", "64mb"));
    assert_eq!(redis.cli(&["config", "get", "appendfsync"]), "appendfsync\neverysec");
    assert_eq!(redis.cli(&["config", "get", "maxmemory"]), "maxmemory\n67108864");
    redis.config_set("appendfsync", "always");
    assert_eq!(redis.cli(&["config", "get", "appendfsync"]), "appendfsync\nalways");
    assert!(redis.try_cli(&["no-such-command"]).unwrap_err().contains("unknown command"));
}

#[test]
fn a_paused_redis_is_silent_and_then_answers() {
    let redis = Redis::start(RedisSetup::redis());
    let mut connection = tcp::connect(&redis.address(), Duration::from_millis(200));
    redis.pause();
    connection.write_all(b"PING\r\n").unwrap();
    assert!(tcp::silent(&mut connection));
    redis.resume();
    connection.set_read_timeout(None).unwrap();
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).unwrap();
    assert_eq!(line, "+PONG\r\n");
}

#[test]
fn a_dropped_redis_is_gone_even_when_paused() {
    let redis = Redis::start(RedisSetup::redis());
    let address = redis.address();
    redis.pause();
    drop(redis);
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn it_is_rolled_back_to_what_was_kept() {
    for setup in [RedisSetup::redis().everysec(), RedisSetup::valkey().everysec()] {
        let mut redis = Redis::start(setup);
        redis.cli(&["set", "kept", "1"]);
        let kept = redis.keep();
        redis.cli(&["set", "lost", "1"]);
        redis.roll_back(&kept);
        assert_eq!(redis.cli(&["mget", "kept", "lost"]).lines().collect::<Vec<_>>(), ["1"]);
    }
}

#[test]
fn a_promoted_replica_has_what_reached_it() {
    let mut pair = Pair::start(&RedisSetup::redis());
    let way = Proxy::start(&pair.master.address());
    pair.master.cli(&["set", "kept", "1"]);
    assert_eq!(pair.master.cli(&["wait", "1", "5000"]), "1");
    pair.part();
    pair.master.cli(&["set", "lost", "1"]);
    pair.promote(&way);
    assert_eq!(pair.master.cli(&["mget", "kept", "lost"]).lines().collect::<Vec<_>>(), ["1"]);
    pair.master.cli(&["set", "new", "1"]);
    assert_eq!(pair.master.cli(&["wait", "1", "5000"]), "1");
    // And back again.
    pair.promote(&way);
    assert_eq!(pair.master.cli(&["get", "new"]), "1");
}
