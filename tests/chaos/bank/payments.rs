//! Payments: workflows that call a vendor, ask an account, sleep and wait for a signal; and that are undone
//! when they do not come about.
//!
//! ```text
//! check, score ─► charge ─► ask: receive ─► sleep ─► signal ─► (declined) ─► notify ─► paid
//!                   ▲            ▲                                                      ▲
//! undone by       refund    ask: return                                        apart: ask: reopen
//! ```
//!
//! What may have been done though nobody heard of it must be undone too, so each compensation is
//! registered before what it takes back.

use std::{
    future::IntoFuture,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use actix_web::{HttpResponse, get, post, web};
use greenroom::{
    backend::Idempotency,
    gateway::{Intake, Problem, Valid},
    prelude::*,
    runtime::{
        outside::{SignalId, Signalled},
        view::Found,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    Accounts, Told,
    command::{Account, Call, Command, Entry, GO, Pay, Receipt, Telling, What},
};

/// The longest a vendor may take for a call.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it is remembered that a signal was given.
const HOUR: i64 = 3_600_000;

pub(super) struct Payments {
    /// Where the vendor is.
    pub(super) vendor: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Pay(Pay),
    /// By a payment apart: it came about.
    Close {
        mark: String,
        amount: i64,
    },
    /// By a payment apart: it did not, after all.
    Reopen {
        mark: String,
        amount: i64,
    },
}

impl Actor for Payments {
    const KIND: &'static str = "payment";
    type State = Account;
    type Command = Order;
    type Reply = Receipt;

    fn waits(order: &Order) -> Waits {
        match order {
            Order::Pay(Pay { apart: true, .. }) => Waits::Shared,
            _ => Waits::Alone,
        }
    }

    async fn handle(&self, account: &mut Account, order: Order, cx: &Context<Self>) -> Result<Receipt> {
        let of = match order {
            Order::Pay(pay) => return self.pay(account, pay, cx).await,
            Order::Close { mark, amount } => {
                account.close(mark.clone(), amount, cx.now());
                mark
            }
            Order::Reopen { mark, amount } => {
                account.give_back(What::Paid, mark.clone(), amount, cx.now());
                mark
            }
        };
        Ok(account.receipt(of))
    }

    fn retry(&self) -> Retry {
        Retry::times(10).backoff(Duration::from_millis(40), Duration::from_millis(160))
    }
}

impl Account {
    fn close(&mut self, mark: String, amount: i64, at: i64) {
        self.balance -= amount;
        self.tape.push(Entry { what: What::Paid, mark, at });
    }
}

impl Payments {
    async fn pay(&self, account: &mut Account, pay: Pay, cx: &Context<Self>) -> Result<Receipt> {
        let Pay { mark, to, amount, ms, declined, apart } = pay;
        cx.all(2, ["check", "score"].map(|what| self.step(cx, what, &mark))).await?;

        let of = mark.clone();
        cx.undo("charge", async move |payments: &Self, cx: &Context<Self>| {
            payments.step(cx, "refund", &of).await.map(drop)
        });
        self.step(cx, "charge", &mark).await?;

        let (of, from) = (mark.clone(), to.clone());
        cx.undo("deposit", async move |_: &Self, cx: &Context<Self>| {
            cx.ask(Accounts::at(from), Command::Return { mark: of, amount }).await.map(drop)
        });
        cx.ask(Accounts::at(to), Command::Receive { mark: mark.clone(), amount }).await?;

        cx.sleep(Duration::from_millis(ms)).await?;
        let go: String = cx.signal(GO).await?;
        if go != mark {
            return Err(Error::terminal(format!("{mark} got the signal of {go}")).code("mixed"));
        }
        if declined {
            return Err(Error::terminal(format!("{mark}: not this one")).code("declined"));
        }
        self.step(cx, "notify", &mark).await?;
        if apart {
            let of = mark.clone();
            cx.undo("close", async move |_: &Self, cx: &Context<Self>| {
                cx.ask(cx.me(), Order::Reopen { mark: of, amount }).await.map(drop)
            });
            return cx.ask(cx.me(), Order::Close { mark, amount }).await;
        }
        account.close(mark.clone(), amount, cx.now());
        Ok(account.receipt(mark))
    }

    /// A step at the vendor.
    fn step<'a>(
        &self,
        cx: &'a Context<Self>,
        what: &'static str,
        mark: &str,
    ) -> impl IntoFuture<Output = Result<u64>> + use<'a> {
        let (vendor, mark) = (self.vendor.clone(), mark.to_owned());
        cx.run(what, move |key| {
            let (key, mark, what, attempt) = (key.to_string(), mark.clone(), what.to_owned(), key.attempt());
            let (vendor, call) = (vendor.clone(), Call { key, mark, what, process: std::process::id(), attempt });
            async move { Ok(web::block(move || ask(&vendor, &call)).await??) }
        })
    }
}

/// Says it to the vendor, and hears the number of its receipt.
fn ask(vendor: &str, call: &Call) -> std::io::Result<u64> {
    let mut stream = TcpStream::connect(vendor)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\n", serde_json::to_string(call)?).as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Pays somebody.
#[utoipa::path(
    params(("payer" = String, Path, description = "Who pays")),
    request_body = Telling,
    responses((status = 202, description = "Accepted"))
)]
#[post("/payments/{payer}/commands")]
pub(super) async fn pay_somebody(
    intake: Intake,
    payer: web::Path<String>,
    told: Valid<Told>,
) -> Result<HttpResponse, Problem> {
    match told.0.0.command {
        Command::Pay(pay) => intake.accept(Payments::at(payer.into_inner()), Order::Pay(pay)).answer(Value::Null).await,
        _ => Err(Problem::not_found("That is for an account.")),
    }
}

/// Everything that was paid.
#[utoipa::path(
    params(("payer" = String, Path, description = "Who pays")),
    responses((status = 200, description = "The payer", body = Account))
)]
#[get("/payments/{payer}")]
pub(super) async fn show(node: Node, payer: web::Path<String>) -> Result<web::Json<Account>, Problem> {
    Ok(web::Json(node.state::<Payments>(&payer).await?.unwrap_or_default()))
}

/// Gives a payment its signal, once however often it is posted.
#[utoipa::path(
    params(("id" = String, Path, description = "The signal's id")),
    request_body = String,
    responses((status = 202, description = "Taken"), (status = 409, description = "It has ended"))
)]
#[post("/payments/signals/{id}")]
pub(super) async fn signal(
    node: Node,
    id: web::Path<String>,
    value: web::Json<String>,
) -> Result<HttpResponse, Problem> {
    let signal: SignalId = id.parse().map_err(|_| Problem::not_found("That is no signal."))?;
    let expires = node.clock().now() + HOUR;
    let once = Idempotency { key: format!("signal {id}"), fingerprint: 0, answer: "{}".to_owned(), expires };
    let value = to_raw_value(&value.0).map_err(Error::from)?;
    match node.signal(&signal, value, Some(once)).await {
        Ok(Signalled::Taken | Signalled::Seen(_)) => Ok(HttpResponse::Accepted().json(json!({}))),
        Ok(Signalled::Refused(Found::Unknown)) => Err(Problem::not_found("There is no such payment.")),
        Ok(Signalled::Refused(_)) => Ok(HttpResponse::Conflict().json(json!({}))),
        Err(error) => Ok(HttpResponse::ServiceUnavailable().json(error.to_string())),
    }
}
