//! What clients may send, and its limits. A value that passed is stored as it is.

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::{IntoParams, ToSchema};

use super::{
    currency,
    model::{MAX_TOTAL, Status},
};

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Which article.
    #[garde(length(min = 1, max = 64), custom(article))]
    #[schema(min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$", example = "tea")]
    pub sku: String,
    /// How many.
    #[garde(range(min = 1, max = 10_000))]
    #[schema(minimum = 1, maximum = 10_000, example = 2)]
    pub quantity: u32,
    /// The price of one, in minor units (cents).
    #[garde(range(max = 100_000_000))]
    #[schema(minimum = 0, maximum = 100_000_000, example = 450)]
    pub unit_price: u64,
}

/// A new order, as its customer sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Who orders.
    #[garde(length(chars, min = 1, max = 64), custom(printable))]
    #[schema(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", example = "ann")]
    pub customer: String,
    /// ISO 4217, upper case.
    #[garde(custom(currency::known))]
    #[schema(schema_with = currency::schema)]
    pub currency: String,
    /// What is ordered.
    #[garde(length(min = 1, max = 100), dive)]
    #[schema(min_items = 1, max_items = 100)]
    pub lines: Vec<Line>,
}

/// A payment to make, as the customer sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Paying {
    /// In minor units; must be the order's total.
    #[garde(range(max = MAX_TOTAL))]
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_u64, example = 900)]
    pub amount: u64,
    /// Makes the payment provider fail this many times first, to see retries at work.
    #[serde(default)]
    #[garde(range(max = 20))]
    #[schema(minimum = 0, maximum = 20, example = 2)]
    pub fail_times: u32,
}

/// A note to write into the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Noting {
    /// What to write.
    #[garde(length(chars, min = 1, max = 1_000))]
    #[schema(min_length = 1, max_length = 1_000, example = "leave it at the door")]
    pub text: String,
}

/// What `GET /orders` may be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams, Validate)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only this customer's.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 64), custom(printable)))]
    #[param(min_length = 1, max_length = 64, pattern = r"^[^\x00-\x1F\x7F-\x9F]+$")]
    pub customer: Option<String>,
    /// Only those this far.
    #[serde(default)]
    #[garde(skip)]
    #[param(inline)]
    pub status: Option<Status>,
    /// How many a page, 50 when not said.
    #[serde(default)]
    #[garde(range(min = 1, max = 1_000))]
    #[param(minimum = 1, maximum = 1_000)]
    pub limit: Option<u16>,
    /// Where the page starts: the `cursor` of the page before.
    #[serde(default)]
    #[garde(inner(length(min = 1, max = 1_024)))]
    #[param(min_length = 1, max_length = 1_024)]
    pub cursor: Option<String>,
}

/// Refuses a name that no label could show.
fn printable(text: &str, _: &()) -> garde::Result {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(c) => Err(garde::Error::new(format!("has the control character {c:?}"))),
    }
}

/// Refuses what is no article number; it becomes the key of a stock actor.
fn article(text: &str, _: &()) -> garde::Result {
    let alnum = |c: char| c.is_ascii_alphanumeric();
    if text.starts_with(alnum) && text.chars().all(|c| alnum(c) || matches!(c, '.' | '_' | '-')) {
        return Ok(());
    }
    Err(garde::Error::new("may have letters, digits, '.', '_' and '-', and starts with a letter or digit"))
}

/// The order a path names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct OrderId {
    /// The order's id, as the answer to its placing said.
    #[serde(deserialize_with = "uuid")]
    #[param(format = "uuid", pattern = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    pub order: String,
}

impl OrderId {
    /// Of a new order.
    pub fn new(order: impl Into<String>) -> Self {
        Self { order: order.into() }
    }
}

/// The article a path names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Sku {
    /// The article.
    #[serde(deserialize_with = "sku")]
    #[param(min_length = 1, max_length = 64, pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    pub sku: String,
}

/// A UUID in the one way it is stored: lower case, with hyphens.
fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let hyphens = [8, 13, 18, 23];
    let is_uuid = text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match hyphens.contains(&at) {
            true => b == b'-',
            false => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        });
    if is_uuid { Ok(text) } else { Err(D::Error::custom("expected a UUID in lower case")) }
}

fn sku<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.len() {
        1..=64 => article(&text, &()).map(|()| text).map_err(D::Error::custom),
        _ => Err(D::Error::custom("expected 1 to 64 characters")),
    }
}
