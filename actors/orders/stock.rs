//! The stock of one article: one actor per article, so two orders never take the same piece.

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Orders, model};

/// The actors of kind `stock`; the key is the article.
pub struct Stock {
    /// How many of every article there are at first.
    pub initial: u64,
}

/// What the stock of one article remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// Delivered on top of what was there at first.
    pub added: u64,
    /// Set aside for orders, shipped or not.
    pub taken: u64,
}

/// What the stock of one article can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// By an order: set so many aside and tell me.
    Reserve {
        /// Which order.
        order: String,
        /// How many.
        quantity: u64,
    },
    /// By an order: take so many back.
    Release {
        /// How many.
        quantity: u64,
    },
    /// By the supplier: here are so many more.
    Add {
        /// How many.
        quantity: u64,
    },
}

/// What the stock answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// How many can still be set aside.
    pub available: u64,
}

impl Shelf {
    /// How many can still be set aside.
    pub fn available(&self, initial: u64) -> u64 {
        initial.saturating_add(self.added).saturating_sub(self.taken)
    }

    /// Sets `quantity` aside if there are as many.
    fn take(&mut self, quantity: u64, initial: u64) -> bool {
        let enough = quantity <= self.available(initial);
        if enough {
            self.taken += quantity;
        }
        enough
    }
}

impl Actor for Stock {
    const KIND: &'static str = "stock";
    type State = Shelf;
    type Command = Command;
    type Reply = Reply;

    async fn handle(&self, shelf: &mut Shelf, command: Command, cx: &Context<Self>) -> Result<Reply> {
        match command {
            Command::Reserve { order, quantity } => {
                let sku = cx.key().to_owned();
                let answer = if shelf.take(quantity, self.initial) {
                    model::Command::StockHeld { sku }
                } else {
                    model::Command::StockRefused { sku }
                };
                cx.tell(Orders::at(order), answer);
            }
            Command::Release { quantity } => shelf.taken = shelf.taken.saturating_sub(quantity),
            Command::Add { quantity } => {
                let most = i64::MAX as u64 - self.initial.min(i64::MAX as u64);
                shelf.added = shelf
                    .added
                    .checked_add(quantity)
                    .filter(|sum| *sum <= most)
                    .ok_or_else(|| Error::terminal(format!("no shelf holds {quantity} more")).code("shelf_full"))?;
            }
        }
        Ok(Reply { available: shelf.available(self.initial) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_is_set_aside_than_there_is() {
        let mut shelf = Shelf { added: 1, taken: 0 };
        assert!(shelf.take(3, 2));
        assert!(!shelf.take(1, 2));
        assert_eq!(shelf, Shelf { added: 1, taken: 3 });
        assert_eq!(shelf.available(2), 0);
        assert!(!shelf.take(u64::MAX, 2));
    }

    #[test]
    fn stored_names_never_change() {
        let json = |command: Command| serde_json::to_string(&command).unwrap();
        assert_eq!(Stock::KIND, "stock");
        assert_eq!(
            json(Command::Reserve { order: "7".into(), quantity: 2 }),
            r#"{"reserve":{"order":"7","quantity":2}}"#
        );
        assert_eq!(json(Command::Release { quantity: 2 }), r#"{"release":{"quantity":2}}"#);
        assert_eq!(json(Command::Add { quantity: 2 }), r#"{"add":{"quantity":2}}"#);
        assert_eq!(serde_json::to_string(&Shelf { added: 1, taken: 2 }).unwrap(), r#"{"added":1,"taken":2}"#);
        assert_eq!(serde_json::to_string(&Reply { available: 3 }).unwrap(), r#"{"available":3}"#);
    }
}
