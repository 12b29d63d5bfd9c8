//! A product in two builds: `TWO_BUILDS=new` knows a command and a kind that the other one does not.

use std::process::ExitCode;

use greenroom::{
    cli::{self, Product},
    config::Config,
    prelude::*,
};
use serde::{Deserialize, Serialize};

fn build() -> &'static str {
    if std::env::var("TWO_BUILDS").is_ok_and(|build| build == "new") { "new" } else { "old" }
}

/// A list of numbers.
struct Tape;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Old {
    Add(u64),
    Read(()),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum New {
    Add(u64),
    Read(()),
    Mark(u64),
}

impl Actor for Tape {
    const KIND: &'static str = "tape";
    type State = Vec<u64>;
    type Command = Old;
    type Reply = Vec<u64>;

    async fn handle(&self, tape: &mut Vec<u64>, command: Old, _: &Context<Self>) -> Result<Vec<u64>> {
        match command {
            Old::Add(n) => tape.push(n),
            Old::Read(()) => return Ok(tape.clone()),
        }
        Ok(Vec::new())
    }
}

/// The same, as the new build has it.
struct MarkedTape;

impl Actor for MarkedTape {
    const KIND: &'static str = "tape";
    type State = Vec<u64>;
    type Command = New;
    type Reply = Vec<u64>;

    async fn handle(&self, tape: &mut Vec<u64>, command: New, _: &Context<Self>) -> Result<Vec<u64>> {
        match command {
            New::Add(n) | New::Mark(n) => tape.push(n),
            New::Read(()) => return Ok(tape.clone()),
        }
        Ok(Vec::new())
    }
}

/// A kind that only the new build has; it passes on what it is told.
struct Fresh;

impl Actor for Fresh {
    const KIND: &'static str = "fresh";
    type State = ();
    type Command = u64;
    type Reply = ();

    async fn handle(&self, _: &mut (), n: u64, cx: &Context<Self>) -> Result<()> {
        cx.tell(MarkedTape::at(format!("of-{}", cx.key())), New::Add(n));
        Ok(())
    }
}

fn features(_: &Config) -> Result<Vec<Feature>> {
    Ok(match build() {
        "new" => vec![Feature::new(MarkedTape).actor(Fresh)],
        _ => vec![Feature::new(Tape)],
    })
}

fn main() -> ExitCode {
    cli::main(Product::new("two-builds", build(), features))
}
