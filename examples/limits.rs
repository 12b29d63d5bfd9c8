//! A vendor that allows five calls a second, and two at a time: over all actors, and over all nodes if
//! there were several. Nobody polls, and nobody is refused; whoever has to wait is told its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use greenroom::prelude::*;

/// The vendor, as strict as vendors are.
#[derive(Default)]
struct Vendor {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Vendor {
    async fn ask(&self, _key: &str) -> Result<usize> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        actix::clock::sleep(Duration::from_millis(20)).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Ok(inside)
    }
}

struct Writer {
    vendor: Arc<Vendor>,
}

impl Actor for Writer {
    const KIND: &'static str = "writer";
    type State = ();
    type Command = ();
    type Reply = usize;

    async fn handle(&self, _: &mut (), _: (), cx: &Context<Self>) -> Result<usize> {
        let vendor = &self.vendor;
        cx.run("vendor.ask", |key| async move { vendor.ask(&key).await }).limit("vendor", 1).permit("vendor").await
    }
}

fn main() -> Result<()> {
    let data = tempfile::tempdir()?;
    let vendor = Arc::new(Vendor::default());
    let limit = Limit::rate(5, Duration::from_secs(1)).at_once(2);
    let feature = Feature::new(Writer { vendor: vendor.clone() }).limit("vendor", limit);
    App::embedded(data.path()).feature(feature).run_until(|node| async move {
        let begin = Instant::now();
        let all = (0..12).map(|n| node.ask(Writer::at(format!("chapter {n}")), ()));
        for asked in futures_util::future::join_all(all).await {
            asked?;
        }
        let took = begin.elapsed();
        println!("12 calls at 5 a second took {:.1} s", took.as_secs_f64());
        // Five are there at the beginning, the other seven come one after the other.
        assert!(took >= Duration::from_millis(1_400), "no faster than the vendor allows");
        let most = vendor.most.load(Ordering::SeqCst);
        println!("never more than {most} at a time");
        assert!(most <= 2);

        // Whoever is no actor asks the node. Each customer has a bucket of its own.
        let limits = node.limits();
        assert!(limits.try_take("vendor/ann", 5).await?.allowed());
        let refused = limits.try_take("vendor/ann", 1).await?;
        println!("ann has to wait {} ms, bob does not", refused.wait);
        assert!(!refused.allowed() && limits.try_take("vendor/bob", 1).await?.allowed());
        Ok(())
    })
}
