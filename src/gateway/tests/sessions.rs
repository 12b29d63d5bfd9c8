//! Sessions as browsers meet them, in virtual time, on the store that `GREENROOM_TEST_STORE` names.

use std::collections::BTreeMap;

use actix_web::{
    body::BoxBody,
    delete,
    dev::{Service, ServiceResponse},
    get,
    http::header,
    test::TestRequest,
    web::{Data, Path},
};
use tokio::sync::Notify;

use super::*;
use crate::{
    backend::Backend,
    clock::Virtual,
    coordination::session::{LoggedIn, Session},
    runtime::faults::{Faults, Plan},
    testing::{
        Which,
        recorder::{Recorder, backend},
    },
};

const START: i64 = 1_767_225_600_000;
const MINUTE: Duration = Duration::from_secs(60);

type Answered = std::result::Result<HttpResponse, Problem>;

/// Holds a handler up between two moments.
#[derive(Default)]
struct Gate {
    reached: Notify,
    open: Notify,
}

impl Gate {
    async fn pass(&self) {
        self.reached.notify_one();
        self.open.notified().await;
    }
}

/// Logs somebody in whose password was checked.
#[utoipa::path(responses((status = 204, description = "Logged in")))]
#[post("/login/{user}")]
async fn login(session: Session, user: Path<String>) -> Answered {
    session.login(&user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Takes its time between checking and logging in.
#[utoipa::path(responses((status = 204, description = "Logged in")))]
#[post("/slow-login/{user}")]
async fn slow_login(session: Session, user: Path<String>, gate: Data<Gate>) -> Answered {
    let era = session.era(&user).await?;
    gate.pass().await;
    session.login_in(&era).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Logs out.
#[utoipa::path(responses((status = 204, description = "Logged out")))]
#[post("/logout")]
async fn logout(session: Session) -> Answered {
    session.logout().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Another secret.
#[utoipa::path(responses((status = 204, description = "Rotated")))]
#[post("/rotate")]
async fn rotate(session: LoggedIn) -> Answered {
    session.rotate().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends all, and begins anew.
#[utoipa::path(responses((status = 200, description = "How many")))]
#[post("/password")]
async fn password(session: LoggedIn) -> Answered {
    let ended = session.revoke_all().await?;
    session.login(session.user()).await?;
    Ok(HttpResponse::Ok().json(ended))
}

/// Ends the others.
#[utoipa::path(responses((status = 200, description = "How many")))]
#[delete("/others")]
async fn others(session: LoggedIn) -> Answered {
    Ok(HttpResponse::Ok().json(session.revoke_others().await?))
}

/// Who it is, and what there is. Two extractors are one.
#[utoipa::path(responses((status = 200, description = "The session")))]
#[get("/session")]
async fn look(session: Session, again: Session) -> Answered {
    again.set("never", 1)?;
    session.remove("never")?;
    Ok(HttpResponse::Ok().json(json!([session.user(), session.get::<Value>("n")?, session.get::<Value>("m")?])))
}

/// Only users.
#[utoipa::path(responses((status = 200, description = "The user")))]
#[get("/me")]
async fn me(session: LoggedIn) -> HttpResponse {
    HttpResponse::Ok().json(session.user())
}

/// Sets a value, blindly.
#[utoipa::path(responses((status = 204, description = "Set")))]
#[post("/values/{key}/{value}")]
async fn put(session: Session, path: Path<(String, usize)>) -> Answered {
    let (key, value) = path.into_inner();
    session.set(&key, value)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Adds to what it has read before.
#[utoipa::path(responses((status = 204, description = "Set")))]
#[post("/slow-sum/{key}")]
async fn slow_sum(session: Session, key: Path<String>, gate: Data<Gate>) -> Answered {
    let before: u64 = session.get(&key)?.unwrap_or(0);
    gate.pass().await;
    session.set(&key, before + 1)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Adds to whatever is there.
#[utoipa::path(responses((status = 204, description = "Set")))]
#[post("/slow-update/{key}")]
async fn slow_update(session: Session, key: Path<String>, gate: Data<Gate>) -> Answered {
    session.update(&key, |n: Option<u64>| n.unwrap_or(0) + 1)?;
    gate.pass().await;
    Ok(HttpResponse::NoContent().finish())
}

/// Sets a text so long.
#[utoipa::path(responses((status = 204, description = "Set")))]
#[post("/large/{bytes}")]
async fn large(session: Session, bytes: Path<usize>) -> Answered {
    session.set("large", "x".repeat(*bytes))?;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes something, fails, and keeps the session for longer than its request.
#[utoipa::path(responses((status = 409, description = "Never well")))]
#[post("/fail")]
async fn fail(session: Session) -> Answered {
    session.set("n", 1)?;
    KEPT.set(Some(session));
    Err(Problem::conflict("as things stand"))
}

thread_local! {
    static KEPT: std::cell::Cell<Option<Session>> = const { std::cell::Cell::new(None) };
}

fn routes(gate: Data<Gate>) -> Vec<Routes> {
    vec![Arc::new(move |config| {
        config.app_data(gate.clone());
        config.service(login).service(slow_login).service(logout).service(rotate).service(password).service(others);
        config
            .service(look)
            .service(me)
            .service(put)
            .service(slow_sum)
            .service(slow_update)
            .service(large)
            .service(fail);
        config.service(super::list_counters);
    })]
}

trait App: Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> {}
impl<S: Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>> App for S {}

/// A served node, and what moves its clock, holds handlers up, and takes its store away.
struct World<A> {
    app: A,
    node: Node,
    clock: Arc<Virtual>,
    gate: Data<Gate>,
    plan: Arc<Plan>,
}

async fn world() -> World<impl App> {
    world_of(|_| {}).await
}

async fn world_of(change: impl FnOnce(&mut crate::coordination::session::Settings)) -> World<impl App> {
    let store: Arc<dyn Backend> =
        Which::from_env().unwrap().open(&Options { partitions: 1, ..Options::default() }).unwrap();
    store.join().await.unwrap();
    let (clock, plan) = (Virtual::at(START), Arc::<Plan>::default());
    let recorder = Recorder { store, history: Arc::default(), plan: plan.clone(), company: None, hold: None };
    let mut settings = crate::runtime::settings::Settings { arbiters: 0, ..Default::default() };
    change(&mut settings.session);
    let start = Start { backend: backend(recorder), features: vec![], settings, clock: Clock::Virtual(clock.clone()) };
    let node = Node::start_with(start, Faults::planned(plan.clone()), 1).await.unwrap();
    let gate = Data::new(Gate::default());
    let shared = super::routes::share(node.clone(), &routes(gate.clone()), Settings::default());
    let app = init_service(super::routes::app(&shared, &routes(gate.clone()))).await;
    World { app, node, clock, gate, plan }
}

/// Keeps cookies, and says where requests come from.
#[derive(Clone, Default)]
struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn cookie(&self) -> &str {
        self.cookies.get("__Host-session").map_or("", String::as_str)
    }

    fn request(&self, request: TestRequest) -> TestRequest {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = request
            .insert_header((header::HOST, "shop.example"))
            .insert_header((header::USER_AGENT, "Browser 1.0"))
            .insert_header(("sec-fetch-site", "same-origin"));
        if cookies.is_empty() { request } else { request.insert_header((header::COOKIE, cookies.join("; "))) }
    }

    async fn send(&mut self, app: &impl App, request: TestRequest) -> (u16, Value) {
        let (status, headers, body) = call(app, self.request(request)).await;
        for set in headers.get_all(header::SET_COOKIE) {
            let (pair, rest) = set.to_str().unwrap().split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Lax") && rest.contains("Path=/"), "{rest}");
            assert_eq!(headers.get(header::CACHE_CONTROL).unwrap(), "no-store");
            match rest.contains("Max-Age=0") {
                true => _ = self.cookies.remove(name),
                false => _ = self.cookies.insert(name.to_owned(), value.to_owned()),
            }
        }
        (status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post(&mut self, app: &impl App, uri: &str) -> u16 {
        self.send(app, TestRequest::post().uri(uri)).await.0
    }

    async fn look(&mut self, app: &impl App) -> Value {
        let (status, body) = self.send(app, TestRequest::get().uri("/session")).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

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

#[actix_web::test]
async fn a_client_is_told_its_node_until_it_names_it() {
    let node = node(1 << 20).await;
    let shared = super::routes::share(
        node,
        &super::routes(),
        Settings { affinity: Some("node-a".into()), ..Settings::default() },
    );
    let app = init_service(super::routes::app(&shared, &super::routes())).await;
    let told = async |pairs: &[(&str, &str)]| {
        let request = pairs.iter().fold(TestRequest::get().uri("/livez"), |r, pair| r.insert_header(*pair));
        let (_, headers, _) = call(&app, request).await;
        headers.get(header::SET_COOKIE).map(|set| set.to_str().unwrap().to_owned())
    };
    let set = "greenroom_node=node-a; Path=/; HttpOnly; SameSite=Lax";
    assert_eq!(told(&[]).await.as_deref(), Some(set));
    assert_eq!(told(&[("cookie", "greenroom_node=node-b")]).await.as_deref(), Some(set));
    assert_eq!(told(&[("cookie", "x=1; greenroom_node=node-a")]).await, None);
    let secure = told(&[("host", "shop.example"), ("x-forwarded-proto", "https")]).await.unwrap();
    assert!(secure.ends_with("; Secure"), "{secure}");
    shared.retire();
    assert_eq!(told(&[]).await, None, "nobody is to come back to a node that goes");
}
