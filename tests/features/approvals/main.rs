//! A product of one workflow, in several builds: `APPROVALS_BUILD` says which. What is deployed while
//! commands wait is what users deploy.

use std::{process::ExitCode, time::Duration};

use greenroom::{
    cli::{self, Product},
    config::Config,
    prelude::*,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which build this is.
fn build() -> &'static str {
    match std::env::var("APPROVALS_BUILD").as_deref() {
        Ok("renamed") => "renamed",
        Ok("versioned") => "versioned",
        Ok("retyped") => "retyped",
        Ok("shorter") => "shorter",
        Ok("plain") => "plain",
        Ok("panics") => "panics",
        Ok("without") => "without",
        _ => "first",
    }
}

struct Order;

#[derive(Serialize, Deserialize)]
struct Place {
    amount: u64,
}

impl Actor for Order {
    const KIND: &'static str = "order";
    type State = Vec<String>;
    type Command = Place;
    type Reply = Value;

    async fn handle(&self, done: &mut Vec<String>, place: Place, cx: &Context<Self>) -> Result<Value> {
        match build() {
            "renamed" => cx.run("check", |_| async { Ok(()) }).await?,
            "versioned" if cx.version("check first") => cx.run("check", |_| async { Ok(()) }).await?,
            // Awaiting anything else is what a handler must not do.
            "plain" => std::future::pending().await,
            "panics" => panic!("a mistake of this build"),
            _ => {}
        }
        cx.undo("card", async |_: &Order, cx: &Context<Order>| cx.run("card.release", |_| async { Ok(()) }).await);
        if build() == "retyped" {
            cx.run("card.hold", |_| async { Ok(Vec::<u64>::new()) }).await?;
        } else {
            cx.run("card.hold", |key| async move { Ok((key.to_string(), Secret::new("4242 4242".to_owned()))) })
                .await?;
        }
        let score = cx.ask(Risk::at("eu"), place.amount).await?;
        if build() == "shorter" {
            return Ok(Value::Null);
        }
        let approved: Value = cx.signal("approval").within(Duration::from_secs(3600)).await?;
        done.push(format!("{score}"));
        Ok(approved)
    }
}

/// Knows how risky an amount is.
struct Risk;

impl Actor for Risk {
    const KIND: &'static str = "risk";
    type State = ();
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, _: &mut (), amount: u64, cx: &Context<Self>) -> Result<u64> {
        cx.run("model.ask", |_| async move { Ok(amount / 100) }).await
    }
}

fn features(_: &Config) -> Result<Vec<Feature>> {
    Ok(match build() {
        "without" => vec![Feature::new(Risk)],
        _ => vec![Feature::new(Order).actor(Risk)],
    })
}

fn main() -> ExitCode {
    cli::main(Product::new("approvals", build(), features))
}
