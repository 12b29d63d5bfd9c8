//! The proxy cuts, refuses, delays and swallows, and is otherwise not there.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    support::{
        Random, eventually,
        servers::{Proxy, Way},
    },
    tcp,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

#[track_caller]
fn hear(stream: &mut TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), text);
}

#[test]
fn it_cuts_and_heals() {
    let proxy = Proxy::start(&tcp::echo());
    let mut cut = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut cut, "hello");
    hear(&mut cut, "hello");
    proxy.cut();
    assert!(matches!(cut.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.heal();
    let mut new = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut new, "again");
    hear(&mut new, "again");
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn it_is_cut_and_healed_again_and_again() {
    let proxy = Proxy::start(&tcp::echo());
    for _ in 0..50 {
        let mut stream = tcp::connect(&proxy.address(), PATIENCE);
        say(&mut stream, "hello");
        hear(&mut stream, "hello");
        proxy.cut();
        assert_eq!(proxy.open(), 0);
        proxy.heal();
    }
}

#[test]
fn it_hangs_up_and_takes_others() {
    let proxy = Proxy::start(&tcp::echo());
    let mut old = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut old, "hello");
    hear(&mut old, "hello");
    proxy.hang_up();
    assert!(matches!(old.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    let mut new = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut new, "again");
    hear(&mut new, "again");
}

#[test]
fn it_delays_each_way() {
    let proxy = Proxy::start(&tcp::echo());
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    proxy.delay(Duration::from_millis(100));
    let begun = Instant::now();
    say(&mut stream, "slow");
    hear(&mut stream, "slow");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    proxy.heal();
    say(&mut stream, "fast");
    hear(&mut stream, "fast");
}

#[test]
fn a_delay_changes_neither_bytes_nor_their_order() {
    let proxy = Proxy::start(&tcp::echo());
    proxy.delay(Duration::from_millis(20));
    let mut random = Random::seeded(1);
    let sent: Vec<u8> = (0..8 << 20).map(|_| random.next() as u8).collect();
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    let mut heard = Vec::new();
    thread::scope(|scope| {
        let mut writer = stream.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut heard).unwrap();
    });
    assert!(heard == sent);
    eventually("the proxy to forget it", || (proxy.open() == 0).then_some(()));
}

#[test]
fn it_stalls_and_delivers_when_healed() {
    let proxy = Proxy::start(&tcp::echo());
    let mut old = tcp::connect(&proxy.address(), Duration::from_millis(200));
    say(&mut old, "before");
    hear(&mut old, "before");
    proxy.stall();
    let mut new = tcp::connect(&proxy.address(), Duration::from_millis(200));
    for stream in [&mut old, &mut new] {
        say(stream, "kept");
        assert!(tcp::silent(stream));
    }
    proxy.heal();
    for stream in [&mut old, &mut new] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        hear(stream, "kept");
    }
}

#[test]
fn a_cut_while_it_stalls_loses_what_was_on_its_way() {
    let proxy = Proxy::start(&tcp::echo());
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut stream, "before");
    hear(&mut stream, "before");
    proxy.stall();
    say(&mut stream, "lost");
    proxy.cut();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    proxy.heal();
    let mut new = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut new, "again");
    hear(&mut new, "again");
}

#[test]
fn without_a_server_it_closes() {
    let nobody = Proxy::start("127.0.0.1:1");
    let mut stream = tcp::connect(&nobody.address(), PATIENCE);
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
}

#[test]
fn it_delays_one_way() {
    let proxy = Proxy::start(&tcp::echo());
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    for way in [Way::ToServer, Way::ToClient] {
        proxy.delay_one(way, Duration::from_millis(300));
        let begun = Instant::now();
        say(&mut stream, "slow");
        hear(&mut stream, "slow");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(600), "{way:?}: {took:?}");
        proxy.heal();
    }
}

#[test]
fn it_loses_answers_and_ends_those_connections_when_healed() {
    let proxy = Proxy::start(&tcp::echo());
    let mut robbed = tcp::connect(&proxy.address(), Duration::from_millis(200));
    let mut idle = tcp::connect(&proxy.address(), PATIENCE);
    for stream in [&mut robbed, &mut idle] {
        say(stream, "before");
        hear(stream, "before");
    }
    proxy.lose(Way::ToClient);
    say(&mut robbed, "done, and not answered");
    assert!(tcp::silent(&mut robbed));
    proxy.heal();
    assert!(matches!(robbed.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    say(&mut idle, "after");
    hear(&mut idle, "after");
}

#[test]
fn only_connections_on_which_a_word_was_said_suffer() {
    let proxy = Proxy::start(&tcp::echo());
    let mut writing = tcp::connect(&proxy.address(), Duration::from_millis(200));
    let mut reading = tcp::connect(&proxy.address(), PATIENCE);
    proxy.only(&["write", "append"]);
    proxy.lose(Way::ToClient);
    say(&mut writing, "append this");
    assert!(tcp::silent(&mut writing));
    say(&mut reading, "read that");
    hear(&mut reading, "read that");
    proxy.hang_up();
    assert!(matches!(writing.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    proxy.heal();
    say(&mut reading, "append this");
    hear(&mut reading, "append this");
}

#[test]
fn it_loses_requests() {
    let (server, heard) = tcp::listener();
    let proxy = Proxy::start(&server);
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut stream, "before");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"before");
    proxy.lose(Way::ToServer);
    say(&mut stream, "lost");
    assert!(heard.recv_timeout(Duration::from_millis(200)).is_err());
    proxy.heal();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
}

#[test]
fn it_cuts_a_large_request_in_its_middle() {
    let (server, heard) = tcp::listener();
    let proxy = Proxy::start(&server);
    proxy.cut_large(1000);
    let mut stream = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut stream, "small");
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), b"small");
    say(&mut stream, &"x".repeat(1000));
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "it is closed");
    let arrived: Vec<u8> = heard.iter().take_while(|bytes| !bytes.is_empty()).flatten().collect();
    assert_eq!(arrived.len(), 500);
}

#[test]
fn it_can_lead_to_another_server() {
    let (one, at_one) = tcp::listener();
    let (other, at_other) = tcp::listener();
    let proxy = Proxy::start(&one);
    let mut old = tcp::connect(&proxy.address(), PATIENCE);
    say(&mut old, "one");
    assert_eq!(at_one.recv_timeout(PATIENCE).unwrap(), b"one");
    proxy.lead_to(&other);
    say(&mut old, "still");
    assert_eq!(at_one.recv_timeout(PATIENCE).unwrap(), b"still");
    say(&mut tcp::connect(&proxy.address(), PATIENCE), "other");
    assert_eq!(at_other.recv_timeout(PATIENCE).unwrap(), b"other");
}
