//! A client that did not hear the answer asks again under the same idempotency key: it gets the
//! first answer, and the effect happens once. Another request under that key is refused.

use greenroom::{
    backend::{Idempotency, NotAppended},
    prelude::*,
    runtime::{node::Accept, view::View},
};

struct Account;

impl Actor for Account {
    const KIND: &'static str = "account";
    type State = i64;
    type Command = i64;
    type Reply = i64;

    async fn handle(&self, balance: &mut i64, deposit: i64, _: &Context<Self>) -> Result<i64> {
        *balance += deposit;
        Ok(*balance)
    }
}

/// What the gateway makes of a request with an `Idempotency-Key`.
fn deposit(node: &Node, key: &str, amount: i64) -> Result<Accept> {
    Ok(Accept {
        to: Account::at("ann").address()?,
        command: serde_json::value::to_raw_value(&amount)?,
        due: None,
        trace: None,
        idempotency: Some(Idempotency {
            key: format!("POST /deposits {key}"),
            fingerprint: amount as u64,
            answer: format!("{{\"deposit\":{amount}}}"),
            expires: node.clock().now() + 24 * 3600 * 1000,
        }),
        fence: None,
        wait: true,
    })
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    App::embedded(data.path()).feature(Feature::new(Account)).run_until(|node| async move {
        let first = node.accept(deposit(&node, "k1", 50)?).await?;
        let View { result, .. } = first.ended.ok_or_else(|| Error::new("nobody waits"))?.await?;
        println!("deposited: balance {}", result.map_or("unknown".into(), |json| json.to_string()));

        let again = node.accept(deposit(&node, "k1", 50)?).await?;
        assert_eq!(again.request, first.request, "the same request");
        assert_eq!(again.replayed.as_deref(), Some(r#"{"deposit":50}"#), "the first answer");

        let other = node.accept(deposit(&node, "k1", 70)?).await;
        assert!(matches!(other, Err(NotAppended::Mismatch)), "the key is taken");

        let balance = node.ask(Account::at("ann"), 0).await?;
        println!("asked twice, deposited once: balance {balance}");
        assert_eq!(balance, 50);
        Ok(())
    })
}
