//! What passes a load balancer and what does not: who the client is, streams, sockets, the operators' side.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::json;

use crate::{
    balancer::Kind,
    nodes::Nodes,
    support::{Client, PATIENCE},
};

/// Sends a head, and reads until the answer ends with this: nothing may hold it back.
fn hear(url: &str, head: &str, ends: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE.min(Duration::from_secs(20)))).expect("a patience");
    stream.write_all(head.as_bytes()).expect("sent");
    read_to(&mut stream, ends);
    stream
}

fn read_to(stream: &mut TcpStream, ends: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(ends.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {:?}", String::from_utf8_lossy(&heard)));
        heard.extend(byte);
    }
}

fn passes(kind: Kind) {
    let nodes = Nodes::start("0s");
    let balancer = kind.start(nodes.addresses());
    let url = balancer.url();
    let client = Client::new(url.clone());

    let lies = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-host", "evil.example"),
    ];
    let who = client.send("GET", "/who", &lies, None).expect("an answer").expect(200).json();
    assert_eq!((&who["for"], &who["proto"], &who["forwarded"]), (&json!(["127.0.0.1"]), &json!(["http"]), &json!([])));
    assert_eq!(who["host"], json!([url.trim_start_matches("http://")]), "sessions know their pages by it");

    for closed in ["/admin", "/admin/nodes", "/metrics"] {
        client.get(closed).expect(404);
    }
    client.get("/livez").expect(200);

    drop(hear(&url, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n", "data: first\n\n\r\n"));
    // The example of RFC 6455, section 1.3.
    let head = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut socket = hear(&url, head, "\r\n\r\n");
    for word in ["one", "two"] {
        socket.write_all(word.as_bytes()).expect("sent");
        read_to(&mut socket, word);
    }
}

#[test]
fn haproxy_passes_on_what_it_should() {
    passes(Kind::Haproxy);
}

#[test]
fn nginx_passes_on_what_it_should() {
    passes(Kind::Nginx);
}
