//! scratch
use greenroom::{
    prelude::*,
    testing::{Point, World},
};
use std::time::Duration;
struct Counter;
#[derive(serde::Serialize, serde::Deserialize)]
enum Cmd {
    Add(u64),
    Fail(u32),
    Later(u64),
    Panic,
}
impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = Cmd;
    type Reply = u64;
    async fn handle(&self, total: &mut u64, c: Cmd, cx: &Context<Self>) -> Result<u64> {
        match c {
            Cmd::Add(n) => *total += n,
            Cmd::Fail(n) => {
                *total += 1000;
                if cx.attempt() <= n {
                    return Err(Error::new("no"));
                } else {
                    *total -= 999;
                }
            }
            Cmd::Later(n) => {
                cx.tell(cx.me(), Cmd::Add(n)).after(Duration::from_secs(10));
            }
            Cmd::Panic => panic!("boom"),
        }
        Ok(*total)
    }
}
#[test]
fn all() {
    for point in Point::ALL {
        World::new(|| vec![Feature::new(Counter)]).play(async |mut w| {
            w.tell(Counter::at("a"), Cmd::Add(1)).await;
            w.settle().await;
            w.crash_at(point);
            w.tell(Counter::at("a"), Cmd::Add(1)).await;
            w.tell(Counter::at("a"), Cmd::Fail(2)).await;
            w.tell(Counter::at("a"), Cmd::Add(1)).await;
            w.tell(Counter::at("b"), Cmd::Later(5)).await;
            w.tell(Counter::at("c"), Cmd::Panic).await;
            w.settle().await;
            w.advance(Duration::from_secs(3000)).await;
            println!(
                "{point:?} {:?} {:?} crashes {} dead {} {:?}",
                w.state::<Counter>("a").await,
                w.state::<Counter>("b").await,
                w.crashes(),
                w.dead().await,
                w.audit().await
            );
            w.no_loss().await;
            w.no_duplicate();
            w.in_order(Counter::at("a"));
            assert_eq!(w.state::<Counter>("a").await, Some(4));
            assert_eq!(w.state::<Counter>("b").await, Some(5));
            assert_eq!(w.dead().await, 1);
        });
    }
}
