//! Live connections over real sockets: what clients are sent, refused and told when it ends.

mod bounds;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{HttpResponse, get, web};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use super::{Counter, REFUSED, assert_described};
use crate::{
    backend::embedded::{Embedded, Options},
    clock::Clock,
    feature::Feature,
    gateway::{
        Gateway, Live, Problem, Settings, Told,
        schemas::connections::{ConnectionView, ConnectionsView, NodeConnectionsView},
    },
    prelude::*,
    runtime::{node::Start, settings::Settings as Runtime},
};

/// What anybody may follow.
#[utoipa::path(responses((status = 200, description = "Events")))]
#[get("/live/{channel}")]
async fn follow(
    live: Live,
    channel: web::Path<String>,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, Problem> {
    live.open(&channel, payload).await
}

/// The same, and what clients say is added to the counter of the channel's name.
#[utoipa::path(responses((status = 101, description = "A WebSocket")))]
#[get("/talk/{channel}")]
async fn talk(
    live: Live,
    channel: web::Path<String>,
    payload: web::Payload,
) -> std::result::Result<HttpResponse, Problem> {
    let key = channel.clone();
    let meaning = move |data: &str| Told::new(Counter::at(key.clone()), &serde_json::from_str(data)?);
    live.ws(&channel, payload).on_message(meaning).open().await
}

struct Served {
    node: Node,
    gateway: Gateway,
}

async fn serve(change: impl FnOnce(&mut Settings, &mut Runtime)) -> Served {
    let mut settings = Settings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, ..Settings::default() };
    let mut runtime = Runtime { arbiters: 0, ..Default::default() };
    runtime.live.spread = Duration::from_secs(1);
    change(&mut settings, &mut runtime);
    let feature = Feature::new(Counter).routes(|config| {
        config.service(follow).service(talk);
    });
    let backend = Arc::new(Embedded::in_memory(Options { partitions: 1, ..Options::default() }).unwrap());
    let start = Start { backend, features: vec![feature.clone()], settings: runtime, clock: Clock::System };
    let node = Node::start(start).await.unwrap();
    Served { gateway: Gateway::start(node.clone(), &[feature], settings).unwrap(), node }
}

impl Served {
    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Pushes, and waits until the channel has it.
    async fn push(&self, channel: &str, value: u64) {
        self.node.push(channel, "e", &value).await.unwrap();
        let (backend, now) = (&self.node.shared().backend, self.node.clock().now());
        while backend.runnable(now).await.unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }

    async fn socket(&self, path: &str) -> Socket {
        self.try_socket(path, None).await.unwrap()
    }

    async fn try_socket(&self, path: &str, origin: Option<&str>) -> Result<Socket, WsError> {
        let mut request = format!("ws://{}{path}", self.address()).into_client_request().unwrap();
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().unwrap());
        }
        connect_async(request).await.map(|(socket, _)| Socket(socket))
    }

    async fn stream(&self, path: &str, headers: &str) -> Stream {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut stream = Stream(BufReader::new(stream));
        let status = stream.line().await;
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        while !stream.line().await.is_empty() {}
        stream
    }

    /// The status and the problem that answer.
    async fn refused(&self, path: &str, headers: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.address());
        let header: Vec<(String, String)> = headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        web::block(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let request = header.iter().fold(agent.get(&url), |request, (name, value)| request.header(name, value));
            let mut answer = request.call().unwrap();
            (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
        })
        .await
        .unwrap()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what).await.expect("in time")
}

struct Stream(BufReader<TcpStream>);

impl Stream {
    /// The next line; of chunks only what is in them.
    async fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            soon(self.0.read_line(&mut line)).await.unwrap();
            let line = line.trim_end().to_owned();
            if u64::from_str_radix(&line, 16).is_err() {
                return line;
            }
        }
    }

    /// The fields of the next event.
    async fn event(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            match self.line().await {
                line if line.is_empty() && fields.is_empty() => {}
                line if line.is_empty() => return fields,
                line => {
                    let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
                    fields.push((name.to_owned(), value.to_owned()));
                }
            }
        }
    }

    /// Its name, data and id.
    async fn named(&mut self) -> (String, String, String) {
        let fields = self.event().await;
        let of = |name: &str| fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value).to_owned();
        (of("event"), of("data"), of("id"))
    }

    /// Whether the stream ends here: with its last chunk, for the connection may be kept.
    async fn is_over(&mut self) -> bool {
        loop {
            let mut line = String::new();
            match soon(self.0.read_line(&mut line)).await {
                Ok(0) | Err(_) => return true,
                Ok(_) => match line.trim() {
                    "0" => return true,
                    "" => {}
                    _ => return false,
                },
            }
        }
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn message(&mut self) -> Message {
        loop {
            match soon(self.0.next()).await.unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn json(&mut self) -> Value {
        match self.message().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The next one's name, data and id.
    async fn named(&mut self) -> (String, Value, String) {
        let json = self.json().await;
        let id = json["id"].as_str().unwrap_or_default().to_owned();
        (json["event"].as_str().unwrap().to_owned(), json["data"].clone(), id)
    }

    async fn say(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    /// The code it is closed with, and that the connection is closed then.
    async fn closed(&mut self) -> (CloseCode, String) {
        match self.message().await {
            Message::Close(Some(close)) => {
                while soon(self.0.next()).await.is_some_and(|next| next.is_ok()) {}
                (close.code, close.reason.to_string())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[actix_web::test]
async fn an_event_stream_goes_on_where_it_was_left() {
    let served = serve(|settings, _| settings.heartbeat = Duration::from_millis(100)).await;
    let mut stream = served.stream("/live/a", "").await;
    let ready = stream.event().await;
    assert_eq!(ready[0].0, "retry");
    assert!((250..=1250).contains(&ready[0].1.parse::<u64>().unwrap()), "{ready:?}");
    assert_eq!((ready[1].1.as_str(), ready[2].0.as_str()), ("ready", "id"));
    served.push("a", 1).await;
    let (event, data, first) = stream.named().await;
    assert_eq!((&*event, &*data), ("e", "1"));
    let beat = loop {
        match stream.line().await {
            line if line.is_empty() => {}
            line => break line,
        }
    };
    assert_eq!(beat, ": still here");
    drop(stream);
    served.push("a", 2).await;
    served.push("a", 3).await;
    // A browser says in the header where it was, and still has the query it began with.
    let begun = &ready[2].1;
    let mut again = served.stream(&format!("/live/a?after={begun}"), &format!("Last-Event-ID: {first}\r\n")).await;
    assert_eq!(
        (again.named().await.1, again.named().await.1, again.named().await.0),
        ("2".into(), "3".into(), "ready".into())
    );
    let mut other = served.stream(&format!("/live/a?after={begun}"), "").await;
    assert_eq!(other.named().await.1, "1");
    for (path, headers, place) in [
        ("/live/a?after=7".to_owned(), String::new(), json!({"parameter": "after"})),
        (format!("/live/b?after={begun}"), String::new(), json!({"parameter": "after"})),
        ("/live/a".to_owned(), "Last-Event-ID: x\n".to_owned(), json!({"header": "Last-Event-ID"})),
    ] {
        let (status, problem) = served.refused(&path, &headers).await;
        assert_eq!(status, 400, "{problem}");
        let fault = problem["errors"][0].as_object().unwrap();
        assert!(place.as_object().unwrap().iter().all(|(name, value)| fault[name] == *value), "{problem}");
    }
    served.gateway.stop(true).await;
}

#[actix_web::test]
async fn a_socket_goes_on_where_it_was_left() {
    let served = serve(|_, _| {}).await;
    let mut socket = served.socket("/live/a").await;
    assert_eq!(socket.named().await.0, "ready");
    served.node.push("a", "paid", &json!({ "order": 7 })).await.unwrap();
    let (event, data, id) = socket.named().await;
    assert_eq!((&*event, data), ("paid", json!({ "order": 7 })));
    drop(socket);
    served.push("a", 2).await;
    let mut again = served.socket(&format!("/live/a?after={id}")).await;
    assert_eq!((again.named().await.1, again.named().await.0), (json!(2), "ready".to_owned()));
    served.push("a", 3).await;
    assert_eq!(again.named().await.1, json!(3));
    let status = |error: WsError| match error {
        WsError::Http(answer) => answer.status().as_u16(),
        other => panic!("{other}"),
    };
    assert_eq!(status(served.try_socket("/live/b?after=x", None).await.err().unwrap()), 400);
    assert_eq!(status(served.try_socket("/live/a", Some("https://evil.example")).await.err().unwrap()), 403);
    let own = format!("http://{}", served.address());
    assert!(served.try_socket("/live/a", Some(&own)).await.is_ok());
    let (code, problem) = served.refused("/talk/a", "").await;
    assert_eq!(code, 400, "asked for no WebSocket: {problem}");
    served.gateway.stop(true).await;
}

#[actix_web::test]
async fn what_clients_say_is_accepted_once_and_durably_or_refused_with_a_reason() {
    let served = serve(|_, runtime| runtime.live.message_bytes = 200).await;
    let mut socket = served.socket("/talk/a").await;
    assert_eq!(socket.named().await.0, "ready");
    socket.say(r#"{"ref":"m1","data":4}"#).await;
    let (event, data, _) = socket.named().await;
    assert_eq!((&*event, &data["ref"]), ("accepted", &json!("m1")));
    drop(socket);
    // It did not read the answer, as far as it knows, and says it again.
    let mut socket = served.socket("/talk/a").await;
    assert_eq!(socket.named().await.0, "ready");
    for (said, what) in [
        (r#"{"ref":"m1","data":4}"#, "accepted"),
        (r#"{"ref":"m1","data":5}"#, "/problems/idempotency-key-reused"),
        (r#"{"ref":"m2","data":"x"}"#, "/problems/invalid"),
        (r#"{"ref":"","data":1}"#, "/problems/invalid"),
        (r#"{"data":1}"#, "/problems/malformed-body"),
        ("hello", "/problems/malformed-body"),
        (r#"{"ref":"m3","data":5}"#, "accepted"),
    ] {
        socket.say(said).await;
        let (event, answer, _) = socket.named().await;
        if what == "accepted" {
            assert_eq!(event, what, "{answer}");
            assert!(said != r#"{"ref":"m1","data":4}"# || answer["request"] == data["request"]);
        } else {
            assert_eq!((&*event, &answer["problem"]["type"]), ("refused", &json!(what)), "{said}");
        }
    }
    assert_eq!(served.node.ask(Counter::at("a"), 0).await.unwrap(), 9, "4 and 5, each once");
    // A command that fails was accepted all the same: how it ended is asked for by its id.
    socket.say(format!(r#"{{"ref":"m4","data":{REFUSED}}}"#)).await;
    assert_eq!(socket.named().await.0, "accepted");
    socket.say(format!(r#"{{"ref":"m5","data":"{}"}}"#, "x".repeat(300))).await;
    assert_eq!(socket.closed().await.0, CloseCode::Size);
    let mut silent = served.socket("/live/a").await;
    assert_eq!(silent.named().await.0, "ready");
    silent.say("anything").await;
    assert_eq!(silent.closed().await.0, CloseCode::Policy);
    let mut binary = served.socket("/talk/a").await;
    assert_eq!(binary.named().await.0, "ready");
    binary.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(binary.closed().await.0, CloseCode::Unsupported);
    served.gateway.stop(true).await;
}
