//! What a session takes from whom: cookies, origins, data.

use super::*;

#[actix_web::test]
async fn a_forged_cookie_never_reaches_the_store() {
    let world = world().await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    // From now on the store answers nobody.
    world.plan.die();
    let served = async |cookie: String| {
        let mut eve = Browser { cookies: [("__Host-session".to_owned(), cookie)].into() };
        let asked = eve.send(&world.app, TestRequest::get().uri("/me"));
        tokio::time::timeout(Duration::from_millis(300), asked).await.ok().map(|(status, _)| status)
    };
    let genuine = ann.cookie().to_owned();
    assert_eq!(served(genuine.clone()).await, None, "a genuine one is asked for");
    let mut forged = genuine.clone().into_bytes();
    forged[30] ^= 1;
    for forged in [String::from_utf8(forged).unwrap(), genuine[1..].to_owned(), String::new(), "x".repeat(20_000)] {
        assert_eq!(served(forged.clone()).await, Some(401), "{forged}");
    }
    let text = world.node.metrics().encode();
    assert!(text.contains("greenroom_session_events_total{event=\"forged\"} 4"), "{text}");
}

#[actix_web::test]
async fn only_pages_of_ours_change_anything_under_a_session() {
    let world = world().await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    let origin = |value| [(header::ORIGIN, value)];
    let site = |value| [("sec-fetch-site".parse().unwrap(), value)];
    let send = async |cookie: bool, method: Method, uri: &str, pairs: &[(header::HeaderName, &str)]| {
        let mut request = TestRequest::default().method(method).uri(uri).insert_header((header::HOST, "shop.example"));
        if cookie {
            request = request.insert_header((header::COOKIE, format!("__Host-session={}", ann.cookie())));
        }
        request = pairs.iter().fold(request, |r, (name, value)| r.insert_header((name.clone(), *value)));
        call(&world.app, request).await.0.as_u16()
    };
    for (cookie, pairs, expected) in [
        (true, &origin("https://shop.example")[..], 204),
        (true, &origin("https://evil.example"), 403),
        (true, &origin("null"), 403),
        (true, &site("same-origin"), 204),
        (true, &site("same-site"), 403),
        (true, &site("cross-site"), 403),
        (true, &[], 403),
        // Nobody is logged in by another's page; a program without cookies may do what it likes.
        (false, &site("cross-site"), 403),
        (false, &[], 204),
    ] {
        assert_eq!(send(cookie, Method::POST, "/values/n/1", pairs).await, expected, "{cookie} {pairs:?}");
    }
    // Reading changes nothing; a socket is no reading.
    assert_eq!(send(true, Method::GET, "/me", &site("cross-site")).await, 200);
    let socket = [site("cross-site"), [(header::UPGRADE, "websocket")]].concat();
    assert_eq!(send(true, Method::GET, "/me", &socket).await, 403);
    // Whoever takes no session is not asked.
    assert_eq!(send(true, Method::GET, "/counters", &site("cross-site")).await, 200);
    let mut text = Browser::default();
    let (_, problem) = text.send(&world.app, TestRequest::post().uri("/logout").insert_header(("x", "y"))).await;
    assert_eq!(problem, Value::Null);
}

#[actix_web::test]
async fn two_requests_never_lose_each_others_change() {
    let world = world().await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/values/n/1").await;
    let meanwhile = async |slow: &str, quick: &str| {
        let (mut one, mut two) = (ann.clone(), ann.clone());
        let slow = one.send(&world.app, TestRequest::post().uri(slow));
        let quick = async {
            world.gate.reached.notified().await;
            assert_eq!(two.post(&world.app, quick).await, 204);
            world.gate.open.notify_one();
        };
        futures_util::future::join(slow, quick).await.0
    };
    assert_eq!(meanwhile("/slow-sum/n", "/values/m/7").await.0, 204);
    assert_eq!(ann.clone().look(&world.app).await, json!([null, 2, 7]), "different values");
    let (status, problem) = meanwhile("/slow-sum/n", "/values/n/50").await;
    assert_eq!((status, &problem["type"], &problem["key"]), (409, &json!("/problems/session-conflict"), &json!("n")));
    assert_eq!(ann.clone().look(&world.app).await, json!([null, 50, 7]));
    assert_eq!(meanwhile("/slow-update/n", "/values/n/60").await.0, 204);
    assert_eq!(ann.clone().look(&world.app).await, json!([null, 61, 7]), "made again on the other's");
    // A login takes along what is written into the anonymous session meanwhile.
    let (mut user, mut other) = (ann.clone(), ann.clone());
    let entering = user.send(&world.app, TestRequest::post().uri("/slow-login/ann"));
    let writing = async {
        world.gate.reached.notified().await;
        assert_eq!(other.post(&world.app, "/values/m/8").await, 204);
        world.gate.open.notify_one();
    };
    assert_eq!(futures_util::future::join(entering, writing).await.0.0, 204);
    assert_eq!(user.look(&world.app).await, json!(["ann", 61, 8]));
}

#[actix_web::test]
async fn what_was_set_is_kept_whatever_is_answered_and_nothing_is_set_after_that() {
    let world = world().await;
    let mut ann = Browser::default();
    assert_eq!(ann.post(&world.app, "/fail").await, 409);
    assert_eq!(ann.look(&world.app).await, json!([null, 1, null]));
    let kept = KEPT.take().unwrap();
    assert_eq!(kept.set("n", 2).unwrap_err().status(), 500);
    assert_eq!(kept.login("eve").await.unwrap_err().status(), 500);
    assert_eq!(ann.look(&world.app).await, json!([null, 1, null]));
}

#[actix_web::test]
async fn data_and_sessions_are_bounded() {
    let world = world_of(|session| (session.bytes, session.per_user) = (100, 2)).await;
    let mut ann = Browser::default();
    assert_eq!(ann.post(&world.app, "/large/88").await, 204);
    let (status, problem) = ann.send(&world.app, TestRequest::post().uri("/large/89")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("session_too_large")));
    assert_eq!(ann.post(&world.app, "/values/n/1").await, 422, "with all that is there");
    let mut browsers = vec![Browser::default(); 3];
    for browser in &mut browsers {
        assert_eq!(browser.post(&world.app, "/login/bob").await, 204);
        world.clock.advance(MINUTE);
    }
    assert_eq!(browsers[0].look(&world.app).await[0], Value::Null);
    assert_eq!(
        [browsers[1].look(&world.app).await[0].clone(), browsers[2].look(&world.app).await[0].clone()],
        ["bob"; 2]
    );
    for bad in ["/login/%20%0A", &format!("/login/{}", "x".repeat(257))] {
        let (status, problem) = Browser::default().send(&world.app, TestRequest::post().uri(bad)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("bad_user")));
    }
}

#[actix_web::test]
async fn the_cookie_is_for_tls_unless_this_machine_is_called() {
    let world = world().await;
    for (host, forwarded, expected) in [
        ("localhost:8080", None, "session="),
        ("shop.example", None, "__Host-session="),
        ("127.0.0.1:8080", Some("https"), "__Host-session="),
    ] {
        let mut request = TestRequest::post().uri("/login/ann").insert_header((header::HOST, host));
        if let Some(proto) = forwarded {
            request = request.insert_header(("x-forwarded-proto", proto));
        }
        let (status, headers, _) = call(&world.app, request).await;
        let set = headers.get(header::SET_COOKIE).unwrap().to_str().unwrap();
        assert_eq!(status, 204);
        assert!(set.starts_with(expected) && set.contains("; Secure") == set.starts_with("__Host-"), "{host}: {set}");
    }
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    let cookie = format!("session={}", ann.cookie());
    let plain = TestRequest::get().uri("/me").insert_header((header::HOST, "shop.example"));
    assert_eq!(call(&world.app, plain.insert_header((header::COOKIE, cookie))).await.0, 401, "without its prefix");
    ann.post(&world.app, "/logout").await;
    assert!(ann.cookies.is_empty(), "the cookie is taken back");
}
