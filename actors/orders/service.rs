//! The rules of an order, pure: a command and the time go in, the changed order and what must
//! follow come out. No clock, no I/O, nothing sent, so every rule is tested without a runtime.

use greenroom::{Error, Result};

use super::{
    model::{Command, Entry, Happening, Hold, MAX_TOTAL, Order, Payment, PaymentStatus, Reply, Reservation, Status},
    payment::{self, Charge},
    validator::{Line, Noting, Paying, Placement},
};

/// The most notes one order keeps, so that its state stays small.
pub(super) const MAX_NOTES: usize = 1_000;

/// What is known of the command being handled.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Now, in milliseconds since the Unix epoch.
    pub(super) now: i64,
    /// Which attempt this is, from 1.
    pub(super) attempt: u32,
    /// The same in every attempt of this command.
    pub(super) idempotency_key: String,
}

/// What must follow a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ask the stock of this article to set so many aside.
    Reserve(String, u64),
    /// Give so many of this article back.
    Release(String, u64),
    /// Ship when the time has come.
    ShipLater,
}

/// Handles one command of one order.
pub(super) fn handle(state: &mut Option<Order>, command: Command, about: &About) -> Result<(Reply, Vec<Effect>)> {
    let mut effects = Vec::new();
    let order = match (state, command) {
        (state @ None, Command::Place(placement)) => state.insert(place(placement, about, &mut effects)?),
        (None, _) => return Err(refuse("unknown_order", "there is no such order")),
        (Some(order), command) => {
            change(order, command, about, &mut effects)?;
            order
        }
    };
    Ok((Reply { status: order.status, total: order.total, currency: order.currency.clone() }, effects))
}

fn change(order: &mut Order, command: Command, about: &About, effects: &mut Vec<Effect>) -> Result<()> {
    match command {
        Command::Place(_) => return Err(refuse("already_placed", "the order is placed already")),
        Command::StockHeld { sku } => stock_held(order, sku, about, effects),
        Command::StockRefused { sku } => stock_refused(order, sku, about, effects),
        Command::Pay(paying) => pay(order, paying, about, effects)?,
        Command::Note(note) => note_down(order, note, about)?,
        Command::Ship => ship(order, about),
        Command::Cancel => cancel(order, about, effects)?,
        Command::Follow => order.followed = true,
    }
    Ok(())
}

/// The sum of the lines in minor units. Terminal error when it is above [`MAX_TOTAL`].
pub(super) fn total(lines: &[Line]) -> Result<u64> {
    lines
        .iter()
        .try_fold(0_u64, |sum, line| sum.checked_add(line.unit_price.checked_mul(u64::from(line.quantity))?))
        .filter(|total| *total <= MAX_TOTAL)
        .ok_or_else(|| refuse("total_too_large", format!("the total is above {MAX_TOTAL}")))
}

fn place(placement: Placement, about: &About, effects: &mut Vec<Effect>) -> Result<Order> {
    let Placement { customer, currency, lines } = placement;
    let mut stock: Vec<Reservation> = Vec::new();
    for Line { sku, quantity, .. } in &lines {
        let quantity = u64::from(*quantity);
        match stock.iter_mut().find(|held| held.sku == *sku) {
            Some(held) => held.quantity += quantity,
            None => stock.push(Reservation { sku: sku.clone(), quantity, status: Hold::Pending }),
        }
    }
    effects.extend(stock.iter().map(|held| Effect::Reserve(held.sku.clone(), held.quantity)));
    let mut order = Order {
        customer,
        status: Status::Placed,
        currency,
        total: total(&lines)?,
        lines,
        stock,
        payments: Vec::new(),
        history: Vec::new(),
        placed_at: about.now,
        followed: false,
    };
    log(&mut order, about, Happening::Placed, None);
    Ok(order)
}

/// The stock answered: it is set aside, unless the order ended meanwhile.
fn stock_held(order: &mut Order, sku: String, about: &About, effects: &mut Vec<Effect>) {
    let ended = matches!(order.status, Status::Cancelled | Status::Rejected);
    let Some(held) = order.stock.iter_mut().find(|held| held.sku == sku && held.status == Hold::Pending) else {
        return;
    };
    if ended {
        held.status = Hold::Released;
        effects.push(Effect::Release(sku, held.quantity));
        return;
    }
    held.status = Hold::Held;
    log(order, about, Happening::StockHeld, Some(sku));
    if order.status == Status::Paid && all_held(order) {
        effects.push(Effect::ShipLater);
    }
}

/// The stock answered: not enough. The order ends, and gives back what it has.
fn stock_refused(order: &mut Order, sku: String, about: &About, effects: &mut Vec<Effect>) {
    let Some(held) = order.stock.iter_mut().find(|held| held.sku == sku && held.status == Hold::Pending) else {
        return;
    };
    held.status = Hold::Refused;
    log(order, about, Happening::StockRefused, Some(sku));
    if matches!(order.status, Status::Placed | Status::Paid) {
        order.status = Status::Rejected;
        log(order, about, Happening::Rejected, None);
        give_back(order, about, effects);
    }
}

/// Takes the money; does not wait for the stock, which pays back if it must refuse.
fn pay(order: &mut Order, paying: Paying, about: &About, effects: &mut Vec<Effect>) -> Result<()> {
    match order.status {
        Status::Placed => {}
        Status::Paid | Status::Shipped => return Err(refuse("already_paid", "the order is already paid")),
        Status::Cancelled => return Err(refuse("order_cancelled", "the order is cancelled")),
        Status::Rejected => return Err(refuse("order_rejected", "the order was rejected for lack of stock")),
    }
    if paying.amount != order.total {
        let (total, currency) = (order.total, &order.currency);
        return Err(refuse(
            "wrong_amount",
            format!("the order costs {total} {currency} in minor units, not {}", paying.amount),
        ));
    }
    let charge = Charge { key: &about.idempotency_key, attempt: about.attempt, fail_times: paying.fail_times };
    let reference = payment::charge(charge)?;
    order.status = Status::Paid;
    order.payments.push(Payment {
        reference,
        amount: paying.amount,
        status: PaymentStatus::Paid,
        attempts: about.attempt,
        at: about.now,
    });
    log(order, about, Happening::Paid, None);
    if all_held(order) {
        effects.push(Effect::ShipLater);
    }
    Ok(())
}

fn note_down(order: &mut Order, Noting { text }: Noting, about: &About) -> Result<()> {
    if order.history.iter().filter(|entry| entry.event == Happening::Noted).count() >= MAX_NOTES {
        return Err(refuse("too_many_notes", format!("the order has {MAX_NOTES} notes already")));
    }
    log(order, about, Happening::Noted, Some(text));
    Ok(())
}

/// The timer after the payment. An order that was cancelled meanwhile stays.
fn ship(order: &mut Order, about: &About) {
    if order.status == Status::Paid && all_held(order) {
        order.status = Status::Shipped;
        log(order, about, Happening::Shipped, None);
    }
}

fn cancel(order: &mut Order, about: &About, effects: &mut Vec<Effect>) -> Result<()> {
    match order.status {
        Status::Placed | Status::Paid => {}
        Status::Shipped => return Err(refuse("already_shipped", "the order has left already")),
        Status::Cancelled => return Err(refuse("order_cancelled", "the order is cancelled already")),
        Status::Rejected => return Err(refuse("order_rejected", "the order was rejected for lack of stock")),
    }
    order.status = Status::Cancelled;
    log(order, about, Happening::Cancelled, None);
    give_back(order, about, effects);
    Ok(())
}

/// Releases what is held and refunds what is paid. What is still asked for is released when the
/// stock answers.
fn give_back(order: &mut Order, about: &About, effects: &mut Vec<Effect>) {
    for held in order.stock.iter_mut().filter(|held| held.status == Hold::Held) {
        held.status = Hold::Released;
        effects.push(Effect::Release(held.sku.clone(), held.quantity));
    }
    let mut refunded = false;
    for payment in order.payments.iter_mut().filter(|payment| payment.status == PaymentStatus::Paid) {
        payment.status = PaymentStatus::Refunded;
        refunded = true;
    }
    if refunded {
        log(order, about, Happening::Refunded, None);
    }
}

fn all_held(order: &Order) -> bool {
    order.stock.iter().all(|held| held.status == Hold::Held)
}

fn log(order: &mut Order, about: &About, event: Happening, text: Option<String>) {
    order.history.push(Entry { at: about.now, event, about: text });
}

fn refuse(code: &'static str, message: impl Into<String>) -> Error {
    Error::terminal(message).code(code)
}
