//! The server under test: tapes that write down each number and push it to whoever follows. Greenroom's
//! own command line around one actor, so what is restarted and killed is what users run.

use std::process::ExitCode;

use actix_web::{HttpResponse, get, post, web};
use garde::Validate;
use greenroom::{
    cli::{self, Product},
    config::Config,
    gateway::{Intake, Live, Problem, Valid},
    prelude::*,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Tapes;

impl Actor for Tapes {
    const KIND: &'static str = "tape";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = usize;

    async fn handle(&self, tape: &mut Vec<u64>, number: u64, cx: &Context<Self>) -> Result<usize> {
        tape.push(number);
        cx.push(&format!("tape-{}", cx.key()), "n", &number);
        Ok(tape.len())
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Number {
    #[garde(skip)]
    n: u64,
}

/// Writes a number down.
#[utoipa::path(
    params(("tape" = String, Path, description = "Its key")),
    request_body = Number,
    responses((status = 202, description = "Accepted"))
)]
#[post("/tapes/{tape}")]
async fn write(intake: Intake, tape: web::Path<String>, number: Valid<Number>) -> Result<HttpResponse, Problem> {
    intake.accept(Tapes::at(tape.into_inner()), number.n).answer(Value::Null).await
}

/// What is on a tape.
#[utoipa::path(
    params(("tape" = String, Path, description = "Its key")),
    responses((status = 200, description = "The numbers", body = Vec<u64>))
)]
#[get("/tapes/{tape}")]
async fn show(node: Node, tape: web::Path<String>) -> Result<web::Json<Vec<u64>>, Problem> {
    Ok(web::Json(node.state::<Tapes>(&tape).await?.unwrap_or_default()))
}

/// Follows a tape.
#[utoipa::path(
    params(("tape" = String, Path, description = "Its key")),
    responses((status = 200, description = "Events"), (status = 101, description = "A WebSocket"))
)]
#[get("/tapes/{tape}/live")]
async fn follow(live: Live, tape: web::Path<String>, payload: web::Payload) -> Result<HttpResponse, Problem> {
    live.open(&format!("tape-{tape}"), payload).await
}

fn features(_: &Config) -> Result<Vec<Feature>> {
    Ok(vec![Feature::new(Tapes).routes(|routes| {
        routes.service(write).service(show).service(follow);
    })])
}

fn main() -> ExitCode {
    cli::main(Product::new("tapes", env!("CARGO_PKG_VERSION"), features))
}
