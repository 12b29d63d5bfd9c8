//! The program under test: two hundred schedules, each ringing a bell that writes down for which slots it
//! rang. Its clock can be set, over HTTP.

#[path = "plan.rs"]
mod plan;

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use actix_web::{HttpResponse, get, post, web};
use greenroom::{
    cli::{self, Product},
    config::Config,
    gateway::Problem,
    prelude::*,
};
use plan::{Planned, When};

struct Bell;

impl Actor for Bell {
    const KIND: &'static str = "bell";
    /// In milliseconds since the Unix epoch.
    type State = Vec<i64>;
    type Command = ();
    type Reply = ();

    async fn handle(&self, slots: &mut Vec<i64>, (): (), cx: &Context<Self>) -> Result<()> {
        slots.push(cx.slot().ok_or_else(|| Error::terminal("no schedule rang"))?);
        Ok(())
    }
}

/// For which slots each bell rang.
#[utoipa::path(responses((status = 200, description = "The slots, by bell", body = serde_json::Value)))]
#[get("/bells")]
async fn bells(node: Node) -> Result<HttpResponse, Problem> {
    let rung = node.query::<Bell>(Query::new().limit(1000)).await?;
    Ok(HttpResponse::Ok().json(rung.items.into_iter().collect::<BTreeMap<String, Vec<i64>>>()))
}

/// Sets the clock of this process forward, or back.
#[utoipa::path(params(("by" = i64, Path, description = "Milliseconds")), responses((status = 200, description = "It is set")))]
#[post("/clock/{by}")]
async fn clock(by: web::Path<i64>) -> HttpResponse {
    greenroom::testing::jump(*by);
    HttpResponse::Ok().finish()
}

fn features(_: &Config) -> Result<Vec<Feature>> {
    let declare = |feature: Feature, bell: Planned| {
        let schedule = match bell.when {
            When::Cron(expression) => Schedule::cron(expression).zone(bell.zone),
            When::Every(seconds) => Schedule::every(Duration::from_secs(seconds)),
        };
        let overlap = if bell.waits { Overlap::Queue } else { Overlap::Allow };
        let schedule = schedule.jitter(Duration::from_millis(bell.jitter)).overlap(overlap);
        feature.schedule(&bell.name, schedule.missed(Missed::All { most: 1000 }), Bell::at(bell.name.as_str()), ())
    };
    let feature = Feature::new(Bell).routes(|routes| {
        routes.service(bells).service(clock);
    });
    Ok(vec![plan::bells().into_iter().fold(feature, declare)])
}

fn main() -> ExitCode {
    cli::main(Product::new("bells", env!("CARGO_PKG_VERSION"), features))
}
