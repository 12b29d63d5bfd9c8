//! Sessions as browsers meet them, in virtual time, on the store that `GREENROOM_TEST_STORE` names.

mod what;
mod who;

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
    let shared = super::routes::share(node.clone(), &routes(gate.clone()), Settings::default()).unwrap();
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
