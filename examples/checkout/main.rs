//! A workflow: an order from the shelf to the payout, with a person in between and a way back.
//!
//! [`shop`] has it in one function. Ann buys something small; Bob something that must be approved; Mallory
//! something that the fraud model does not like, and everything done for her is taken back.

mod shop;
mod vendors;

use greenroom::prelude::*;
use shop::{Buy, Checkout, Shelf, Stock};
use vendors::Vendors;

fn buy(customer: &str, sku: &str, amount: u64) -> Buy {
    Buy { customer: customer.into(), sku: sku.into(), amount }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let vendors = Vendors::on(&data.path().join("vendors.jsonl"));
    App::embedded(data.path()).feature(shop::feature(&vendors)).run_until(|node| async move {
        node.ask(Stock::at("tea"), Shelf::Fill(10)).await?;
        node.ask(Stock::at("piano"), Shelf::Fill(1)).await?;

        let order = node.ask(Checkout::at("o-1"), buy("ann", "tea", 40)).await?;
        println!("ann's tea: {} was paid out", order.payout);

        // It waits for two days, if need be, and not in memory.
        let piano = node.ask(Checkout::at("o-2"), buy("bob", "piano", 900));
        let approve = async {
            let link = vendors.approval("o-2").await?;
            println!("bob's piano: waits for approval");
            // The same as a `POST /signals/{link}`.
            node.signal(&link.parse()?, serde_json::value::to_raw_value(&true)?, None).await?;
            Ok(())
        };
        let (order, ()) = tokio::try_join!(piano, approve)?;
        println!("bob's piano: approved, {} was paid out", order.payout);

        let refused = node.ask(Checkout::at("o-3"), buy("mallory", "tea", 60)).await;
        println!("mallory's tea: {}", refused.err().ok_or_else(|| Error::new("it was sold"))?);
        let refunds = vendors.all()?.iter().filter(|call| call.what == "bank.refund").count();
        println!("refunds: {refunds}, tea on the shelf: {}", node.state::<Stock>("tea").await?.unwrap_or_default());
        Ok(())
    })
}
