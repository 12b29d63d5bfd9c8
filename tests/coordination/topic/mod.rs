//! Topics: shops publish, desks get. What shops publish is written down by themselves, with the same
//! commits: a list that owes nothing to topics.

mod delivery;
mod groups;
mod killed;
mod reading;
mod refusing;
mod replaying;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use greenroom::{prelude::*, testing::World, topic::view::TopicView};
use serde::{Deserialize, Serialize};

/// Large enough that a page is full after a few.
const PAD: usize = 1500;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub(super) struct Sale {
    pub(super) n: u64,
    pad: String,
}

pub(super) fn sale(n: u64) -> Sale {
    Sale { n, pad: "x".repeat(PAD) }
}

pub(super) const SALES: Topic<Sale> = Topic::new("sales").shards(2);

/// Publishes, and writes down what: which key, and which number.
pub(super) struct Shop;

#[derive(Serialize, Deserialize)]
pub(super) struct Sell {
    /// Of these keys in turn.
    pub(super) keys: Vec<String>,
    /// So many.
    pub(super) count: u64,
    /// Without any padding.
    pub(super) small: bool,
}

impl Actor for Shop {
    const KIND: &'static str = "shop";
    type State = Vec<(String, u64)>;
    type Command = Sell;
    type Reply = ();

    async fn handle(&self, sold: &mut Self::State, sell: Sell, cx: &Context<Self>) -> Result<()> {
        for _ in 0..sell.count {
            let n = sold.len() as u64 + 1;
            let key = sell.keys[(n % sell.keys.len() as u64) as usize].clone();
            let pad = if sell.small { String::new() } else { "x".repeat(PAD) };
            cx.publish(SALES, &key, &Sale { n, pad });
            sold.push((key, n));
        }
        Ok(())
    }
}

/// Gets: its key is `group:key of events`.
pub(super) struct Desk;

impl Actor for Desk {
    const KIND: &'static str = "desk";
    type State = Vec<u64>;
    type Command = u64;
    type Reply = Vec<u64>;

    async fn handle(&self, got: &mut Vec<u64>, n: u64, cx: &Context<Self>) -> Result<Vec<u64>> {
        if cx.key().starts_with("failing:") && !n.is_multiple_of(2) {
            return Err(Error::new("never"));
        }
        got.push(n);
        Ok(got.clone())
    }

    fn retry(&self) -> Retry {
        Retry::times(3)
    }
}

/// A group whose desks are called like it.
pub(super) fn group(name: &'static str) -> Feature {
    Feature::default().subscribe(SALES, name, move |event, to| {
        to.tell(Desk::at(format!("{name}:{}", event.key)), event.value.n);
    })
}

/// What a build is made of; a test changes it, and restarts.
#[derive(Clone)]
pub(super) struct Build(Rc<RefCell<Features>>);

type Features = Box<dyn Fn() -> Vec<Feature>>;

impl Build {
    pub(super) fn new(features: impl Fn() -> Vec<Feature> + 'static) -> Self {
        Self(Rc::new(RefCell::new(Box::new(features))))
    }

    pub(super) fn becomes(&self, features: impl Fn() -> Vec<Feature> + 'static) {
        *self.0.borrow_mut() = Box::new(features);
    }

    pub(super) fn world(&self) -> World {
        let build = self.0.clone();
        World::new(move || {
            let mut features = (build.borrow())();
            features.push(Feature::new(Shop).actor(Desk).topic(SALES));
            features
        })
    }
}

/// Sells in a shop.
pub(super) async fn sell(world: &mut World, shop: &str, keys: &[&str], count: u64) {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    world.tell(Shop::at(shop), Sell { keys, count, small: false }).await;
}

/// What was published under each key, in order.
pub(super) async fn sold(world: &mut World, shops: &[&str]) -> BTreeMap<String, Vec<u64>> {
    let mut by_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for shop in shops {
        for (key, n) in world.state::<Shop>(shop).await.unwrap_or_default() {
            by_key.entry(key).or_default().push(n);
        }
    }
    by_key
}

/// What the desks of a group got of these keys.
pub(super) async fn got(
    world: &mut World,
    group: &str,
    keys: impl Iterator<Item = &String>,
) -> BTreeMap<String, Vec<u64>> {
    let mut by_key = BTreeMap::new();
    for key in keys {
        let desk = world.state::<Desk>(&format!("{group}:{key}")).await.unwrap_or_default();
        by_key.insert(key.clone(), desk);
    }
    by_key
}

/// Each group got what the shops published, each once, each key in order, and nothing is lost.
pub(super) async fn all_once(world: &mut World, shops: &[&str], groups: &[&str], what: &str) {
    let sold = sold(world, shops).await;
    assert!(!sold.is_empty());
    for group in groups {
        assert_eq!(got(world, group, sold.keys()).await, sold, "{group}: {what}");
    }
    world.no_loss().await;
    world.no_duplicate();
}

/// How the topic stands.
pub(super) async fn topic(world: &mut World) -> TopicView {
    world.node().topic("sales").await.unwrap().unwrap_or_default()
}

/// Long enough for a page to be looked for again.
pub(super) const MOMENT: Duration = Duration::from_millis(200);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
