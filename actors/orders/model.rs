//! What an order is, and what it can be told. These names are stored and served: they are API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::validator::{Line, Noting, Paying, Placement};

/// The largest total, 2^53 − 1: every JSON reader holds it exactly.
pub const MAX_TOTAL: u64 = (1 << 53) - 1;

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for payment.
    Placed,
    /// Paid; ships when its time has come and its stock is held.
    Paid,
    /// On its way. Nothing changes any more.
    Shipped,
    /// Cancelled; stock released, payment refunded.
    Cancelled,
    /// Not enough stock; payment refunded.
    Rejected,
}

impl Status {
    /// As stored, served and queried.
    pub fn name(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }
}

/// The stock one article of an order needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reservation {
    /// Which article.
    pub sku: String,
    /// How many, over all lines of the order.
    pub quantity: u64,
    /// How it stands.
    pub status: Hold,
}

/// How a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// Asked for.
    Pending,
    /// Set aside for this order.
    Held,
    /// There was not enough.
    Refused,
    /// Given back.
    Released,
}

/// A payment that went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payment {
    /// The provider's name for it; the same in every attempt.
    pub reference: String,
    /// In minor units.
    pub amount: u64,
    /// Whether the money came back.
    pub status: PaymentStatus,
    /// Attempts it took.
    pub attempts: u32,
    /// When it went through, in milliseconds since the Unix epoch.
    pub at: i64,
}

/// Where the money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// With us.
    Paid,
    /// Back with the customer.
    Refunded,
}

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// It was placed.
    Placed,
    /// Stock of one article was set aside.
    StockHeld,
    /// There was not enough of one article.
    StockRefused,
    /// It was paid.
    Paid,
    /// The payment went back.
    Refunded,
    /// Somebody wrote a note.
    Noted,
    /// It left.
    Shipped,
    /// It was cancelled.
    Cancelled,
    /// It was rejected for lack of stock.
    Rejected,
}

/// One entry of an order's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
    /// What.
    pub event: Happening,
    /// The article or the note it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// What one order remembers. Nothing (`None`) until it is placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who ordered.
    pub customer: String,
    /// How far it is.
    pub status: Status,
    /// ISO 4217.
    pub currency: String,
    /// The sum of its lines, in minor units.
    pub total: u64,
    /// What was ordered.
    pub lines: Vec<Line>,
    /// What it needs of the stock.
    pub stock: Vec<Reservation>,
    /// Payments that went through: one at most, by the rules.
    pub payments: Vec<Payment>,
    /// What happened, oldest first.
    pub history: Vec<Entry>,
    /// When it was placed, in milliseconds since the Unix epoch.
    pub placed_at: i64,
    /// Whether somebody follows it, so that what happens to it is pushed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub followed: bool,
}

/// What an order can be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// By the customer: this is what I want.
    Place(Placement),
    /// By the stock: set aside.
    StockHeld {
        /// Which article.
        sku: String,
    },
    /// By the stock: not enough.
    StockRefused {
        /// Which article.
        sku: String,
    },
    /// By the customer: take the money.
    Pay(Paying),
    /// By anybody: write this down.
    Note(Noting),
    /// By itself, later: off it goes.
    Ship,
    /// By the customer: never mind.
    Cancel,
    /// By whoever opens a live connection: push what happens from now on.
    Follow,
}

/// What a completed command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reply {
    /// How far the order is now.
    pub status: Status,
    /// Its total, in minor units.
    pub total: u64,
    /// ISO 4217.
    pub currency: String,
}
