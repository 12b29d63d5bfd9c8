//! Commands that wait, with their journals: those of a real node.

use std::{sync::Arc, time::Duration};

use greenroom::{
    Actor,
    backend::{
        Backend, Home, Lookup,
        cluster::{Cluster, Options},
    },
};
use serde_json::json;

use crate::{
    actors::{Do, Flow},
    expected::Expected,
    handled::{becomes, node},
};

/// Commands that wait for a signal, those behind them, commands that wait for others that do, and some that
/// ended and whose journals are kept.
pub(super) async fn fill(options: &Options, expected: &mut Expected) {
    let node = node(options).await;
    let backend: Arc<dyn Backend> = Arc::new(Cluster::inspect(options.clone()).unwrap());
    let mut open = Vec::new();
    for n in 0..4 {
        assert_eq!(node.ask(Flow::at(format!("done{n}")), Do::Steps(4)).await.unwrap(), 6);
        expected.after.insert(format!("flow/done{n}"), Some(json!([6])));
    }
    for n in 0..6_u64 {
        let waits = node.tell(Flow::at(format!("waits{n}")), Do::Signal).await.unwrap();
        open.push(node.position(waits).await.unwrap().unwrap());
        expected.signals.push((open.last().unwrap().to_string(), 100 + n));
        let mut after = vec![107 + n];
        if n < 3 {
            let behind = node.tell(Flow::at(format!("waits{n}")), Do::Write(n)).await.unwrap();
            open.push(node.position(behind).await.unwrap().unwrap());
            after.push(n);
        }
        expected.after.insert(format!("flow/waits{n}"), Some(json!(after)));
    }
    for n in 0..4 {
        let asks = node.tell(Flow::at(format!("asks{n}")), Do::Through(format!("asked{n}"))).await.unwrap();
        open.push(node.position(asks).await.unwrap().unwrap());
    }
    let mut waiting = Vec::new();
    becomes("all flows to wait", async || {
        waiting.clear();
        for partition in 0..options.partitions {
            for position in backend.journaled(partition).await.unwrap() {
                if let Lookup::Waiting(stored) = backend.lookup(position).await.unwrap()
                    && stored.home == Home::Deferred
                {
                    waiting.push(stored);
                }
            }
        }
        waiting.len() == 14
    })
    .await;
    for stored in waiting {
        let to = stored.envelope.unwrap().to.clone();
        if let Some(n) = to.key().strip_prefix("asked") {
            let value = 200 + n.parse::<u64>().unwrap();
            expected.signals.push((stored.position.to_string(), value));
            for to in [format!("flow/asked{n}"), format!("flow/asks{n}")] {
                expected.after.insert(to, Some(json!([value + 7])));
            }
        }
    }
    expected.open.extend(open.iter().map(ToString::to_string));
    node.drain(Duration::from_secs(10)).await;
}
