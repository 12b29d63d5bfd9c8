//! What ends connections: a node that drains, clients that say nothing, limits, operators.

use super::*;

#[actix_web::test]
async fn a_node_that_drains_tells_its_clients_when_to_come_back_and_takes_no_others() {
    let served = serve(|_, _| {}).await;
    let (mut socket, mut stream) = (served.socket("/live/a").await, served.stream("/live/a", "").await);
    assert_eq!((socket.named().await.0, stream.named().await.0), ("ready".to_owned(), "ready".to_owned()));
    served.push("a", 1).await;
    assert_eq!((socket.named().await.1, stream.named().await.1), (json!(1), "1".to_owned()));
    served.gateway.retire();
    let (event, data, _) = socket.named().await;
    let wait = data["wait_ms"].as_u64().unwrap();
    assert!(event == "moving" && (250..=1250).contains(&wait), "{event} {data}");
    let (code, why) = socket.closed().await;
    assert!(code == CloseCode::Restart && why.contains(&wait.to_string()), "{code} {why}");
    assert_eq!(stream.event().await[0].0, "retry");
    assert!(stream.is_over().await);
    // An event source that comes all the same is told to come back, for an error would end it for good.
    let mut late = served.stream("/live/a", "").await;
    assert_eq!(late.event().await[0].0, "retry");
    assert!(late.is_over().await);
    assert!(matches!(served.try_socket("/live/a", None).await, Err(WsError::Http(answer)) if answer.status() == 503));
    // Nobody is left who would hold up the stop.
    let began = std::time::Instant::now();
    served.gateway.stop(true).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[actix_web::test]
async fn a_client_that_says_nothing_or_reads_too_slowly_is_closed() {
    let served = serve(|settings, runtime| {
        settings.heartbeat = Duration::from_millis(100);
        runtime.live.event_bytes = 60 << 10;
        runtime.live.ring_bytes = 64 << 10;
        runtime.live.buffer_bytes = 64 << 10;
    })
    .await;
    // It does not answer pings, because it does not read.
    let mut silent = served.socket("/live/a").await;
    assert_eq!(silent.named().await.0, "ready");
    let gone = async {
        while !served.node.connections(None).await.unwrap().channels.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    let slow = served.stream("/live/b", "").await;
    let text = "x".repeat(59 << 10);
    let ended = async {
        // Until what the system itself buffers is full, and then the rest.
        while !served.node.metrics().encode().contains("greenroom_live_ended_total{why=\"slow\"} 1") {
            let pushes = (0..32).map(|_| served.node.push("b", "e", &text));
            futures_util::future::join_all(pushes).await.into_iter().for_each(|pushed| assert!(pushed.is_ok()));
        }
    };
    soon(ended).await;
    assert!(served.node.metrics().encode().contains("greenroom_live_ended_total{why=\"silent\"} 1"));
    drop(slow);
    served.gateway.stop(false).await;
}

#[actix_web::test]
async fn connections_are_bounded_counted_and_closed_by_operators() {
    let served = serve(|_, runtime| {
        runtime.live.connections = 3;
        runtime.live.per_channel = 2;
    })
    .await;
    let (mut one, mut two) = (served.socket("/live/a").await, served.stream("/live/a", "").await);
    assert_eq!((one.named().await.0, two.named().await.0), ("ready".to_owned(), "ready".to_owned()));
    let (status, problem) = served.refused("/live/a", "").await;
    assert_eq!((status, &problem["type"]), (503, &json!("/problems/too-many-connections")));
    assert!(problem["detail"].as_str().unwrap().starts_with("The channel"), "{problem}");
    let mut three = served.stream("/live/b", "").await;
    assert_eq!(three.named().await.0, "ready");
    let (_, problem) = served.refused("/live/c", "").await;
    assert!(problem["detail"].as_str().unwrap().starts_with("This node"), "{problem}");
    served.push("a", 1).await;
    assert_eq!((one.named().await.1, two.named().await.1), (json!(1), "1".to_owned()));
    let (status, all) = served.refused("/admin/connections", "Host: localhost\n").await;
    assert_eq!((status, &all["channels"][0]), (200, &json!({"channel": "a", "connections": 2})));
    assert_eq!((&all["nodes"][0]["websockets"], &all["nodes"][0]["streams"]), (&json!(1), &json!(2)));
    assert_described::<ConnectionsView>(&all);
    assert_described::<NodeConnectionsView>(&all["nodes"][0]);
    let (_, of_a) = served.refused("/admin/connections?channel=a", "Host: localhost\n").await;
    assert_described::<ConnectionView>(&of_a["connections"][0]);
    assert_eq!(
        (&of_a["connections"][0]["transport"], &of_a["connections"][0]["sent"]),
        (&json!("websocket"), &json!(1))
    );
    let metrics = served.node.metrics().encode();
    assert!(metrics.contains("greenroom_live_connections{transport=\"events\"} 2"), "{metrics}");
    assert!(metrics.contains("greenroom_live_sent_total 2"), "{metrics}");
    assert_eq!(served.node.disconnect("a", None).await.unwrap(), 2);
    assert_eq!(one.closed().await.0, CloseCode::from(4001));
    assert!(two.is_over().await);
    let gone = async {
        while served.node.connections(None).await.unwrap().channels.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    let mut again = served.stream("/live/a", "").await;
    assert_eq!(again.named().await.0, "ready");
    served.gateway.stop(false).await;
}
