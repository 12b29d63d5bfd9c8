//! Who somebody is: logging in and out, other secrets, revoking, expiry.

use super::*;

#[actix_web::test]
async fn a_login_leaves_nothing_to_whoever_knew_the_id_before() {
    let world = world().await;
    let (mut ann, mut eve) = (Browser::default(), Browser::default());
    assert_eq!(eve.look(&world.app).await, json!([null, null, null]));
    assert_eq!(eve.cookie(), "", "nothing to keep, nothing stored");
    assert_eq!(eve.post(&world.app, "/values/n/5").await, 204);
    // The cookie that eve has planted.
    ann.cookies = eve.cookies.clone();
    assert_eq!(ann.post(&world.app, "/login/ann").await, 204);
    assert_ne!(ann.cookie(), eve.cookie());
    assert_eq!(ann.look(&world.app).await, json!(["ann", 5, null]), "what was there before comes along");
    assert_eq!(eve.look(&world.app).await, json!([null, null, null]));
    // A request that was on its way with the old one does not undo the login.
    let planted = eve.cookie().to_owned();
    let (status, problem) = eve.send(&world.app, TestRequest::post().uri("/values/n/6")).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/session-replaced")));
    assert_eq!(eve.post(&world.app, "/logout").await, 409);
    assert_eq!(eve.cookie(), planted);
    world.clock.advance(2 * MINUTE);
    assert_eq!(eve.post(&world.app, "/values/n/6").await, 204);
    assert_ne!(eve.cookie(), planted, "an id that a client brings is never taken over");
    assert_eq!(ann.look(&world.app).await, json!(["ann", 5, null]));
    // Again, by a user of the same browser.
    let before = ann.clone();
    assert_eq!(ann.post(&world.app, "/login/bob").await, 204);
    assert_eq!(ann.look(&world.app).await, json!(["bob", 5, null]));
    assert_eq!(before.clone().look(&world.app).await, json!([null, null, null]));
}

#[actix_web::test]
async fn a_secret_is_replaced_in_time_and_requests_on_their_way_do_not_fail() {
    let world = world().await;
    let mut ann = Browser::default();
    assert_eq!(ann.post(&world.app, "/login/ann").await, 204);
    let first = ann.clone();
    world.clock.advance(59 * MINUTE);
    ann.look(&world.app).await;
    assert_eq!(ann.cookie(), first.cookie());
    world.clock.advance(MINUTE);
    // Two at once, and one that comes a little later, are told the same one.
    let (mut one, mut two) = (first.clone(), first.clone());
    let (a, b) = futures_util::future::join(one.look(&world.app), two.look(&world.app)).await;
    assert_eq!((a, b), (json!(["ann", null, null]), json!(["ann", null, null])));
    assert_ne!(one.cookie(), first.cookie());
    assert_eq!(one.cookie(), two.cookie());
    world.clock.advance(Duration::from_secs(59));
    let mut late = first.clone();
    assert_eq!(late.post(&world.app, "/values/n/1").await, 204);
    assert_eq!(late.cookie(), one.cookie());
    assert_eq!(one.look(&world.app).await, json!(["ann", 1, null]));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(first.clone().look(&world.app).await, json!([null, null, null]), "its grace is over");
    assert_eq!(one.look(&world.app).await, json!(["ann", 1, null]));
    let id = world.node.sessions().list("ann").await.unwrap()[0].id;
    world.clock.advance(61 * MINUTE);
    one.look(&world.app).await;
    assert_ne!(one.cookie(), two.cookie());
    assert_eq!(world.node.sessions().list("ann").await.unwrap()[0].id, id, "its name stays");
    assert!(world.node.sessions().is_live("ann", id).await.unwrap());
    assert!(!world.node.sessions().is_live("bob", id).await.unwrap());
}

#[actix_web::test]
async fn a_change_of_what_it_may_do_leaves_no_grace() {
    let world = world().await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    world.clock.advance(61 * MINUTE);
    let before = ann.clone();
    // In the grace of another rotation, too.
    ann.look(&world.app).await;
    let between = ann.clone();
    assert_eq!(ann.post(&world.app, "/rotate").await, 204);
    for mut old in [before, between] {
        assert_eq!(old.look(&world.app).await, json!([null, null, null]));
        let cookie = old.cookie().to_owned();
        assert_eq!(old.post(&world.app, "/values/n/1").await, 409);
        assert_eq!(old.cookie(), cookie);
        assert_eq!(old.post(&world.app, "/rotate").await, 401);
    }
    assert_eq!(ann.look(&world.app).await, json!(["ann", null, null]));
}

#[actix_web::test]
async fn all_sessions_of_a_user_end_at_once_and_a_login_on_its_way_with_them() {
    let world = world().await;
    let (mut phone, mut laptop, mut eve) = (Browser::default(), Browser::default(), Browser::default());
    phone.post(&world.app, "/login/ann").await;
    laptop.post(&world.app, "/login/ann").await;
    // Eve's password was right when it was checked.
    let entering = eve.send(&world.app, TestRequest::post().uri("/slow-login/ann"));
    let change = async {
        world.gate.reached.notified().await;
        let changed = phone.send(&world.app, TestRequest::post().uri("/password")).await;
        world.gate.open.notify_one();
        changed
    };
    let ((status, problem), changed) = futures_util::future::join(entering, change).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/login-revoked")));
    assert_eq!(changed, (200, json!(2)));
    assert_eq!(eve.look(&world.app).await, json!([null, null, null]));
    assert_eq!(laptop.look(&world.app).await, json!([null, null, null]));
    assert_eq!(phone.look(&world.app).await, json!(["ann", null, null]), "whoever changed it stays");
    world.gate.open.notify_one();
    assert_eq!(laptop.post(&world.app, "/slow-login/ann").await, 204, "the next login is of the new era");
    assert_eq!(laptop.send(&world.app, TestRequest::delete().uri("/others")).await, (200, json!(1)));
    assert_eq!(phone.look(&world.app).await, json!([null, null, null]));
    assert_eq!(laptop.look(&world.app).await, json!(["ann", null, null]));
}

#[actix_web::test]
async fn what_a_revoked_session_was_about_to_write_is_not_written() {
    let world = world().await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    let cookie = ann.cookie().to_owned();
    let writing = ann.send(&world.app, TestRequest::post().uri("/slow-update/n"));
    let revoking = async {
        world.gate.reached.notified().await;
        assert_eq!(world.node.sessions().revoke_all("ann").await.unwrap(), 1);
        world.gate.open.notify_one();
    };
    let ((status, problem), ()) = futures_util::future::join(writing, revoking).await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/session-replaced")));
    assert_eq!(ann.look(&world.app).await, json!([null, null, null]));
    assert_eq!(ann.cookie(), cookie);
}

#[actix_web::test]
async fn a_session_ends_when_nobody_uses_it_and_when_it_is_old() {
    let world = world_of(|session| {
        session.idle = 100 * MINUTE;
        session.absolute = 350 * MINUTE;
    })
    .await;
    let mut ann = Browser::default();
    ann.post(&world.app, "/login/ann").await;
    let seen = async || (world.node.sessions().list("ann").await.unwrap()[0].seen - START) / 60_000;
    // A tenth of the time has to pass before using it is written.
    world.clock.advance(10 * MINUTE);
    ann.look(&world.app).await;
    assert_eq!(seen().await, 0);
    world.clock.advance(MINUTE);
    ann.look(&world.app).await;
    assert_eq!(seen().await, 11);
    world.clock.advance(100 * MINUTE - Duration::from_millis(1));
    assert_eq!(ann.look(&world.app).await, json!(["ann", null, null]));
    world.clock.advance(100 * MINUTE);
    assert_eq!(ann.look(&world.app).await, json!([null, null, null]));
    assert_eq!(ann.send(&world.app, TestRequest::get().uri("/me")).await.0, 401);

    ann.post(&world.app, "/login/ann").await;
    for _ in 0..6 {
        world.clock.advance(50 * MINUTE);
        assert_eq!(ann.look(&world.app).await, json!(["ann", null, null]));
    }
    world.clock.advance(50 * MINUTE);
    assert_eq!(ann.look(&world.app).await, json!([null, null, null]), "it was used all the time");
}

#[actix_web::test]
async fn operators_see_where_a_user_is_logged_in_and_end_it() {
    let world = world().await;
    let (mut phone, mut laptop) = (Browser::default(), Browser::default());
    phone.post(&world.app, "/login/ann%2F1").await;
    world.clock.advance(MINUTE);
    laptop.post(&world.app, "/login/ann%2F1").await;
    let admin = async |method: Method, uri: &str| {
        let request = TestRequest::default().method(method).uri(uri).insert_header((header::HOST, "localhost"));
        let (status, _, body) = call(&world.app, request).await;
        (status.as_u16(), value(&body))
    };
    let (status, listed) = admin(Method::GET, "/admin/sessions/ann%2F1").await;
    assert_eq!(status, 200, "{listed}");
    assert_described::<crate::gateway::schemas::SessionsView>(&listed);
    let items = listed["items"].as_array().unwrap();
    items.iter().for_each(assert_described::<crate::gateway::schemas::SessionView>);
    assert_eq!((items.len(), &items[0]["created"], &items[0]["agent"]), (2, &json!(START), &json!("Browser 1.0")));
    let one = format!("/admin/sessions/ann%2F1/{}", items[0]["id"].as_str().unwrap());
    assert_eq!(admin(Method::DELETE, &one.replace("ann%2F1", "bob")).await.0, 404);
    assert_eq!(admin(Method::DELETE, &one).await, (200, json!({ "count": 1 })));
    assert_eq!(admin(Method::DELETE, &one).await.0, 404);
    assert_eq!((&phone.look(&world.app).await[0], &laptop.look(&world.app).await[0]), (&Value::Null, &json!("ann/1")));
    assert_eq!(admin(Method::DELETE, "/admin/sessions/ann%2F1").await, (200, json!({ "count": 1 })));
    assert_eq!(admin(Method::GET, "/admin/sessions/ann%2F1").await.1, json!({ "items": [] }));
    let (status, problem) = admin(Method::GET, "/admin/sessions/a%0Ab").await;
    assert_eq!((status, &problem["errors"][0]["parameter"]), (400, &json!("user")));
    let stranger = TestRequest::get().uri("/admin/sessions/ann");
    assert_eq!(call(&world.app, stranger.insert_header((header::HOST, "shop.example"))).await.0, 403);
}
