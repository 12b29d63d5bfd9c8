//! The same checkout in a world of the test kit: handlers that run twice, a process that dies at each
//! point the first time it is passed, the second time and so on, and days that pass in no time.

use std::{collections::BTreeSet, path::Path, time::Duration};

use greenroom::{
    prelude::*,
    runtime::{outside::SignalId, view::State},
    testing::{Point, World},
};

use crate::{
    shop::{self, Buy, Checkout, Order, Shelf, Stock},
    vendors::Vendors,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MOMENT: Duration = Duration::from_secs(5);

fn world(vendors: &Vendors) -> World {
    let vendors = vendors.clone();
    World::new(move || vec![shop::feature(&vendors)])
}

fn vendors(dir: &Path) -> Vendors {
    Vendors::on(&dir.join("vendors.jsonl"))
}

fn buy(customer: &str, amount: u64) -> Buy {
    Buy { customer: customer.into(), sku: "tea".into(), amount }
}

/// What took effect, each as often as it did.
fn effects(vendors: &Vendors) -> Vec<String> {
    let calls = vendors.all().unwrap();
    let effects: BTreeSet<(String, String)> = calls.into_iter().map(|call| (call.what, call.key)).collect();
    effects.into_iter().map(|(what, _)| what).collect()
}

/// The signal that an order waits for, from the mail that asks for it.
fn asked(vendors: &Vendors) -> Option<SignalId> {
    let mail = vendors.all().unwrap().into_iter().find(|call| call.what == "mail.approval")?;
    Some(mail.about.split_once(' ').unwrap().1.parse().unwrap())
}

/// Lets a process die the `nth` time it passes a point, somewhere in an order that is approved after a day;
/// whether it did.
fn approved(point: Point, nth: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let vendors = vendors(dir.path());
    world(&vendors).play(async |mut world| {
        world.crash_at_nth(point, nth);
        world.tell(Stock::at("tea"), Shelf::Fill(1)).await;
        world.tell(Checkout::at("o"), buy("bob", 900)).await;
        world.advance(DAY).await;
        assert_eq!(world.state::<Checkout>("o").await, None, "{point:?} {nth}: it waits");
        let signal = asked(&vendors).expect("it asks for approval");
        while world.state::<Checkout>("o").await.is_none() {
            world.signal(signal.request, &signal.name, true).await;
            world.advance(MOMENT).await;
        }
        world.advance(3 * DAY).await;
        let died = world.crashes() > 0;
        assert_eq!(world.state::<Stock>("tea").await, Some(0), "{point:?} {nth}");
        let expected = ["bank.charge", "bank.pay_out", "mail.approval", "mail.send", "model.risk"];
        assert_eq!(effects(&vendors), expected, "{point:?} {nth}");
        assert!(vendors.all().unwrap().len() <= expected.len() + usize::from(died), "{point:?} {nth}");
        world.no_loss().await;
        world.no_duplicate();
        assert_eq!(world.audit().await.in_flight, 0);
        died
    })
}

/// The same, in an order that is refused.
fn refused(point: Point, nth: u32) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let vendors = vendors(dir.path());
    world(&vendors).play(async |mut world| {
        world.crash_at_nth(point, nth);
        world.tell(Stock::at("tea"), Shelf::Fill(1)).await;
        let order = world.tell(Checkout::at("o"), buy("mallory", 900)).await;
        world.advance(12 * MOMENT).await;
        if let Some(order) = order {
            let view = world.view(order).await;
            assert_eq!((view.status, view.error.unwrap().code.as_str()), (State::Failed, "fraud"), "{point:?} {nth}");
        }
        let died = world.crashes() > 0;
        assert_eq!(world.state::<Checkout>("o").await, None, "{point:?} {nth}");
        assert_eq!(world.state::<Stock>("tea").await, Some(1), "{point:?} {nth}");
        assert_eq!(effects(&vendors), ["bank.charge", "bank.refund", "model.risk"], "{point:?} {nth}");
        assert!(vendors.all().unwrap().len() <= 3 + usize::from(died), "{point:?} {nth}");
        world.no_loss().await;
        world.no_duplicate();
        assert_eq!(world.audit().await.in_flight, 0);
        died
    })
}

/// Dies at every point, every time it is passed.
fn everywhere(dies: impl Fn(Point, u32) -> bool) {
    let died = Point::ALL.map(|point| (point, (1..).take_while(|nth| dies(point, *nth)).count()));
    println!("{died:?}");
    let at = |point| died.iter().find(|(other, _)| *other == point).map_or(0, |(_, times)| *times);
    assert!(at(Point::Journal) >= 7 && at(Point::Journaled) >= 7 && at(Point::Handled) >= 4, "{died:?}");
}

#[test]
fn an_approved_order_ends_once_wherever_the_process_dies() {
    everywhere(approved);
}

#[test]
fn a_refused_order_is_undone_once_wherever_the_process_dies() {
    everywhere(refused);
}

#[test]
fn handlers_that_run_twice_take_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let vendors = vendors(dir.path());
    world(&vendors).always_replay().play(async |mut world| {
        world.tell(Stock::at("tea"), Shelf::Fill(3)).await;
        let small = world.tell(Checkout::at("small"), buy("ann", 40)).await.unwrap();
        let large = world.tell(Checkout::at("large"), buy("bob", 900)).await.unwrap();
        let risky = world.tell(Checkout::at("risky"), buy("mallory", 60)).await.unwrap();
        world.advance(DAY / 2).await;
        let signal = asked(&vendors).unwrap();
        assert_eq!(signal.request, large);
        world.signal(large, &signal.name, true).await;
        world.advance(MOMENT).await;
        for (request, status) in [(small, State::Completed), (large, State::Completed), (risky, State::Failed)] {
            assert_eq!(world.view(request).await.status, status);
        }
        assert_eq!(world.state::<Stock>("tea").await, Some(1));
        let calls = vendors.all().unwrap();
        assert_eq!(calls.len(), effects(&vendors).len(), "nothing was called twice: {calls:?}");
        let tells = calls.iter().any(|call| call.key.contains(&large.to_string()));
        assert!(!tells, "a vendor that sees a key could approve: {calls:?}");
        world.no_loss().await;
        world.no_duplicate();
    });
}

#[test]
fn an_order_that_nobody_approves_is_undone() {
    for no in [Some(false), None] {
        let dir = tempfile::tempdir().unwrap();
        let vendors = vendors(dir.path());
        world(&vendors).always_replay().play(async |mut world| {
            world.tell(Stock::at("tea"), Shelf::Fill(1)).await;
            let order = world.tell(Checkout::at("o"), buy("bob", 900)).await.unwrap();
            world.advance(DAY).await;
            match no {
                Some(answer) => world.signal(order, "approval", answer).await,
                None => world.advance(DAY).await,
            }
            world.advance(MOMENT).await;
            let code = world.view(order).await.error.unwrap().code;
            assert_eq!(code, if no.is_some() { "not_approved" } else { "deadline" });
            assert_eq!(world.state::<Stock>("tea").await, Some(1));
            assert_eq!(effects(&vendors), ["bank.charge", "bank.refund", "mail.approval", "model.risk"]);
            world.no_loss().await;
        });
    }
}

#[test]
fn the_last_one_is_sold_once() {
    let dir = tempfile::tempdir().unwrap();
    let vendors = vendors(dir.path());
    world(&vendors).play(async |mut world| {
        world.tell(Stock::at("tea"), Shelf::Fill(1)).await;
        let first = world.ask(Checkout::at("first"), buy("ann", 40)).await.unwrap();
        assert!(matches!(first, Ok(Order { .. })));
        let second = world.ask(Checkout::at("second"), buy("ann", 40)).await.unwrap().unwrap_err();
        assert!(second.has_code("sold_out"), "{second}");
        assert_eq!(effects(&vendors), ["bank.charge", "bank.pay_out", "mail.send", "model.risk"]);
    });
}
