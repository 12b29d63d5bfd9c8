//! The server as a whole, over real connections.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    feature::Feature,
    gateway::{Gateway, Settings},
};

async fn start(change: impl FnOnce(&mut Settings)) -> Gateway {
    let mut settings = Settings { listen: ([127, 0, 0, 1], 0).into(), workers: 1, ..Settings::default() };
    change(&mut settings);
    let feature = Feature::default().routes(|config| {
        config.service(super::add_to).service(super::list_counters).service(super::show);
    });
    Gateway::start(super::node(1 << 20).await, &[feature], settings).unwrap()
}

/// Sends bytes and reads until the server closes.
async fn talk(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[actix_web::test]
async fn it_serves_on_the_port_it_got_until_it_is_stopped() {
    let gateway = start(|_| {}).await;
    let address = gateway.address();
    assert!(talk(address, &get("/readyz")).await.starts_with("HTTP/1.1 200"));
    assert!(talk(address, &get("/readyz").replace("GET", "HEAD")).await.ends_with("\r\n\r\n"));
    gateway.retire();
    let retired = talk(address, &get("/readyz").replace("Connection: close\r\n", "")).await;
    assert!(retired.starts_with("HTTP/1.1 503") && retired.contains("draining"), "{retired}");
    gateway.stop(true).await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    gateway.stop(true).await;
}

#[actix_web::test]
async fn an_address_in_use_is_a_clear_error() {
    let gateway = start(|_| {}).await;
    let settings = Settings { listen: gateway.address(), ..Settings::default() };
    let error = Gateway::start(super::node(1 << 20).await, &[], settings).err().unwrap();
    assert!(error.is_terminal());
    let told = error.to_string();
    assert!(told.contains(&gateway.address().to_string()) && told.contains("another process"), "{told}");
    gateway.stop(false).await;
}

#[actix_web::test]
async fn a_graceful_stop_answers_what_was_asked_and_keeps_no_idle_connection_waiting() {
    let gateway = start(|settings| {
        settings.request_timeout = Duration::from_millis(400);
        settings.max_wait = Duration::ZERO;
    })
    .await;
    let address = gateway.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 15]).await.unwrap();
    let asked = actix_web::rt::spawn(async move { talk(address, &get("/broken/held")).await });
    super::HELD.notified().await;
    let began = Instant::now();
    gateway.stop(true).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(asked.await.unwrap().starts_with("HTTP/1.1 503"));
}

#[actix_web::test]
async fn a_panic_leaves_the_connection_and_the_worker_alive() {
    let gateway = start(|_| {}).await;
    let both = format!("{}{}", get("/broken/panic").replace("Connection: close\r\n", ""), get("/livez"));
    let answers = talk(gateway.address(), &both).await;
    assert!(answers.starts_with("HTTP/1.1 500") && answers.contains("HTTP/1.1 200"), "{answers}");
    gateway.stop(false).await;
}

#[actix_web::test]
async fn a_slow_body_is_cut_off_with_a_problem() {
    let gateway = start(|settings| settings.body_timeout = Duration::from_millis(50)).await;
    let head =
        "POST /counters/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let answer = talk(gateway.address(), head).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("/problems/slow-client"), "{answer}");
    gateway.stop(false).await;
}
