//! Somebody puts tea into a cart, logs in, and is logged out everywhere: what a browser and a server say to
//! each other meanwhile. Who knew the cookie before the login has nothing.

use actix_web::{HttpResponse, get, post};
use greenroom::{
    coordination::session::{LoggedIn, Session},
    gateway::{Gateway, Problem, Settings},
    prelude::*,
};

#[post("/tea")]
async fn tea(session: Session) -> Result<HttpResponse, Problem> {
    session.update("tea", |cups: Option<u32>| cups.unwrap_or(0) + 1)?;
    Ok(HttpResponse::NoContent().finish())
}

#[post("/login")]
async fn login(session: Session) -> Result<HttpResponse, Problem> {
    // … after the password was checked
    session.login("ann").await?;
    Ok(HttpResponse::NoContent().finish())
}

#[get("/me")]
async fn me(session: LoggedIn) -> Result<HttpResponse, Problem> {
    let cups: Option<u32> = session.get("tea")?;
    Ok(HttpResponse::Ok().body(format!("{} with {} cups", session.user(), cups.unwrap_or(0))))
}

fn feature() -> Feature {
    Feature::default().routes(|routes| {
        routes.map(|routes| routes.service(tea).service(login).service(me));
    })
}

/// What a browser would do; the answer's status and text.
fn send(url: &str, method: &str, path: &str, cookie: &mut String) -> Result<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    let request = request.header("cookie", cookie.as_str()).header("sec-fetch-site", "same-origin");
    let mut answer = agent.run(request.body(())?)?;
    if let Some(set) = answer.headers().get("set-cookie") {
        *cookie = set.to_str()?.split(';').next().unwrap_or_default().to_owned();
    }
    let text = answer.body_mut().read_to_string()?;
    Ok(if answer.status() == 200 { text } else { answer.status().as_str().to_owned() })
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    App::embedded(data.path()).run_until(|node| async move {
        let settings = Settings { listen: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
        let gateway = Gateway::start(node.clone(), &[feature()], settings)?;
        let url = format!("http://{}", gateway.address());

        let before = actix_web::web::block({
            let url = url.clone();
            move || {
                let mut ann = String::new();
                send(&url, "POST", "/tea", &mut ann)?;
                let mut planted = ann.clone();
                send(&url, "POST", "/login", &mut ann)?;
                println!("after the login: {}", send(&url, "GET", "/me", &mut ann)?);
                println!("with the cookie of before: {}", send(&url, "GET", "/me", &mut planted)?);
                Ok::<_, Error>(ann)
            }
        });
        let mut ann = before.await??;

        for session in node.sessions().list("ann").await? {
            println!("session {} of ann, by {:?}", session.id, session.agent);
        }
        println!("revoked: {}", node.sessions().revoke_all("ann").await?);
        let after = actix_web::web::block(move || send(&url, "GET", "/me", &mut ann)).await??;
        println!("after that: {after}");
        gateway.stop(true).await;
        Ok(())
    })
}
