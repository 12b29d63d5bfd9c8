//! What is loaded over HTTP: a counter.

use actix_web::{HttpResponse, web};
use greenroom::{
    Actor, Context, Feature, Result,
    gateway::{Intake, Problem},
};
use serde::{Deserialize, Serialize};

pub(crate) struct Counter;

#[derive(Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) add: u64,
    pub(crate) note: String,
}

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = Add;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, add: Add, _: &Context<Self>) -> Result<u64> {
        *total += add.add;
        Ok(*total)
    }
}

async fn add(intake: Intake, key: web::Path<String>, body: web::Json<Add>) -> Result<HttpResponse, Problem> {
    intake.accept(Counter::at(key.into_inner()), body.into_inner()).answer(serde_json::json!({})).await
}

/// `POST /counters/{key}`.
pub(crate) fn feature() -> Feature {
    Feature::new(Counter).routes(|routes| {
        routes.route("/counters/{key}", web::post().to(add));
    })
}
