//! Exclusive use of something that is no actor: two orders want the one printer, and get it one after the
//! other, each with a token that is higher than the last. Outside of actors a lock has a lease, and whoever
//! comes late with an old token is refused by the store.

use std::sync::Mutex;

use greenroom::prelude::*;

/// The printer of the shop. It keeps the highest token it has seen, as whatever a lock protects should.
#[derive(Default)]
struct Printer(Mutex<(u64, Vec<String>)>);

impl Printer {
    fn print(&self, page: String, token: u64) -> Result<()> {
        let Ok(mut printer) = self.0.lock() else { return Err(Error::new("the printer is broken")) };
        if token < printer.0 {
            return Err(Error::terminal("somebody newer has printed").code("stale"));
        }
        printer.0 = token;
        printer.1.push(page);
        Ok(())
    }
}

struct Order {
    printer: std::sync::Arc<Printer>,
}

impl Actor for Order {
    const KIND: &'static str = "order";
    type State = u32;
    type Command = u32;
    type Reply = ();

    async fn handle(&self, printed: &mut u32, pages: u32, cx: &Context<Self>) -> Result<()> {
        let lock = cx.lock("printer").await?;
        for page in 1..=pages {
            let (text, token) = (format!("{} {page}/{pages}", cx.key()), lock.token());
            cx.run("print", |_| {
                let text = text.clone();
                async move { self.printer.print(text, token) }
            })
            .await?;
            *printed += 1;
        }
        // The commit lets it go.
        Ok(())
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let printer = std::sync::Arc::<Printer>::default();
    let feature = Feature::new(Order { printer: printer.clone() });
    App::embedded(data.path()).feature(feature).run_until(|node| async move {
        let (ann, bob) = tokio::join!(node.ask(Order::at("ann"), 3), node.ask(Order::at("bob"), 2));
        ann?;
        bob?;
        if let Ok(printer) = printer.0.lock() {
            println!("printed: {}", printer.1.join(", "));
        }
        let old = node.lock("printer").await?;
        let stale = old.fence();
        old.release().await?;
        let new = node.lock("printer").await?;
        println!("the next holder's token is higher: {}", new.token() > stale.token);
        new.tell(Order::at("eve"), 0).await?;
        new.release().await?;
        let late = greenroom::runtime::node::Accept {
            to: Order::at("eve").address()?,
            command: serde_json::value::to_raw_value(&1)?,
            due: None,
            trace: None,
            idempotency: None,
            fence: Some(stale),
            wait: false,
        };
        match node.accept(late).await {
            Ok(_) => println!("a late one was not noticed"),
            Err(refused) => println!("a late one is refused: {refused}"),
        }
        Ok(())
    })
}
