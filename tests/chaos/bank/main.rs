//! The server under test: accounts that write down everything they do, and payments between them.
//! Greenroom's own command line around two actors, so what is killed is what users run.

mod command;
mod payments;

use std::{process::ExitCode, time::Duration};

use actix_web::{HttpResponse, get, post, web};
use command::{Account, Command, Entry, Receipt, Telling, What, drop_of};
use garde::Validate;
use greenroom::{
    cli::{self, Product},
    config::Config,
    gateway::{Intake, Problem, Valid},
    prelude::*,
};
use payments::Payments;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Accounts;

impl Actor for Accounts {
    const KIND: &'static str = "account";
    type State = Account;
    type Command = Command;
    type Reply = Receipt;

    async fn handle(&self, account: &mut Account, command: Command, cx: &Context<Self>) -> Result<Receipt> {
        let of = command.mark().to_owned();
        let mut write = |what, mark: &str| account.tape.push(Entry { what, mark: mark.to_owned(), at: cx.now() });
        match command {
            Command::Note { mark } => write(What::Noted, &mark),
            Command::Flaky { mark, fails } => {
                write(What::Noted, &mark);
                if cx.attempt() <= fails {
                    leak(account, &mark, cx);
                    return Err(Error::new(format!("{mark}: the vendor is away")));
                }
            }
            Command::Refuse { mark } => {
                leak(account, &mark, cx);
                return Err(Error::terminal(format!("{mark}: never")).code("refused"));
            }
            Command::Doomed { mark } => {
                leak(account, &mark, cx);
                return Err(Error::new(format!("{mark}: the vendor is gone")).code("doomed"));
            }
            Command::Send { mark, to, amount } => {
                write(What::Sent, &mark);
                account.balance -= amount;
                cx.tell(Self::at(to), Command::Receive { mark, amount });
            }
            Command::Receive { mark, amount } => {
                write(What::Received, &mark);
                account.balance += amount;
            }
            Command::Later { mark, ms } => {
                write(What::Noted, &mark);
                cx.tell(cx.me(), Command::Ring { mark }).after(Duration::from_millis(ms));
            }
            Command::Ring { mark } => write(What::Rang, &mark),
            Command::Scatter { mark, number, over } => {
                write(What::Sent, &mark);
                account.balance -= i64::from(number);
                for index in 0..number {
                    cx.tell(Self::at(drop_of(index, over)), Command::Drop { mark: mark.clone(), index });
                }
            }
            Command::Drop { mark, index } => {
                account.balance += 1;
                let drops = account.drops.entry(mark).or_default();
                (drops.number, drops.sum) = (drops.number + 1, drops.sum + u64::from(index));
            }
            Command::Return { mark, amount } => account.give_back(What::Received, mark, -amount, cx.now()),
            Command::Pay(_) => return Err(Error::terminal("an account pays nobody").code("not_here")),
        }
        Ok(account.receipt(of))
    }

    /// Whatever fails for a moment holds up its account for a moment.
    fn retry(&self) -> Retry {
        Retry::times(4).backoff(Duration::from_millis(40), Duration::from_millis(160))
    }
}

impl Account {
    fn receipt(&self, mark: String) -> Receipt {
        Receipt { mark, length: self.tape.len() }
    }

    /// Takes back what was done under this mark, if it was. Whoever asks twice has it taken back twice:
    /// asking once is what is tested.
    fn give_back(&mut self, what: What, mark: String, amount: i64, at: i64) {
        if self.tape.iter().any(|entry| entry.what == what && entry.mark == mark) {
            self.balance += amount;
            self.tape.push(Entry { what: What::Returned, mark, at });
        }
    }
}

/// Changes everything there is to change; nothing of it may remain.
fn leak(account: &mut Account, mark: &str, cx: &Context<Accounts>) {
    account.balance += 1_000_000;
    account.tape.push(Entry { what: What::Leaked, mark: mark.to_owned(), at: cx.now() });
    cx.tell(Accounts::at("leak"), Command::Receive { mark: mark.to_owned(), amount: 1_000_000 });
}

/// As [`Telling`], with nothing to validate beyond its form.
#[derive(Deserialize, Validate, ToSchema)]
#[serde(transparent)]
struct Told(#[garde(skip)] Telling);

/// Tells an account something.
#[utoipa::path(
    params(("account" = String, Path, description = "Its key")),
    request_body = Telling,
    responses((status = 202, description = "Accepted"))
)]
#[post("/accounts/{account}/commands")]
async fn tell(intake: Intake, account: web::Path<String>, told: Valid<Told>) -> Result<HttpResponse, Problem> {
    let Telling { command, after_ms } = told.0.0;
    let acceptance = intake.accept(Accounts::at(account.into_inner()), command);
    match after_ms {
        Some(ms) => acceptance.after(Duration::from_millis(ms)).answer(Value::Null).await,
        None => acceptance.answer(Value::Null).await,
    }
}

/// Everything an account did.
#[utoipa::path(
    params(("account" = String, Path, description = "Its key")),
    responses((status = 200, description = "The account", body = Account))
)]
#[get("/accounts/{account}")]
async fn show(node: Node, account: web::Path<String>) -> Result<web::Json<Account>, Problem> {
    Ok(web::Json(node.state::<Accounts>(&account).await?.unwrap_or_default()))
}

/// Sets the clock of this process forward by so many milliseconds.
#[utoipa::path(params(("by" = i64, Path, description = "Milliseconds")), responses((status = 200, description = "Set")))]
#[post("/clock/{by}")]
async fn clock(by: web::Path<i64>) -> HttpResponse {
    greenroom::testing::jump(*by);
    HttpResponse::Ok().finish()
}

/// Where the vendor is; only payments need one.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Bank {
    vendor: String,
}

fn features(config: &Config) -> Result<Vec<Feature>> {
    let Bank { vendor } = config.section("bank")?;
    Ok(vec![Feature::new(Accounts).actor(Payments { vendor }).routes(|routes| {
        routes.service(tell).service(show).service(clock);
        routes.service(payments::pay_somebody).service(payments::show).service(payments::signal);
    })])
}

fn main() -> ExitCode {
    cli::main(Product::new("bank", env!("CARGO_PKG_VERSION"), features))
}
