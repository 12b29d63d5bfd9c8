//! Being the only one: whoever resizes is a member like a node, so that another one sees it, and begins
//! only when there is no other.
//!
//! Invariant: a member that gives a sign of life is never given up; one that gave none for the lease time
//! owns nothing that it could still use.

use std::{sync::Arc, time::Duration};

use super::refused;
use crate::{
    backend::{
        Member,
        cluster::{Core, nodes, redis::number},
    },
    error::Result,
};

/// How often it looks whether somebody lives.
const LOOK: Duration = Duration::from_millis(50);

/// Joins, and goes on giving signs of life for as long as the store is open.
pub(super) async fn join(core: &Arc<Core>) -> Result<()> {
    nodes::join(core).await?;
    let core = core.clone();
    core.runtime.clone().spawn(async move {
        while !core.closed() {
            tokio::time::sleep(core.options.lease / 4).await;
            // Whoever is given up all the same finds its epochs over.
            let _ = nodes::beat(&core).await;
        }
    });
    Ok(())
}

/// Leaves; if this does not happen, the nodes will notice.
pub(super) async fn leave(core: &Core) {
    let _ = nodes::leave(core).await;
}

async fn others(core: &Core) -> Result<Vec<Member>> {
    let me = core.me();
    Ok(nodes::beat(core).await?.into_iter().filter(|member| member.id != me).collect())
}

/// Waits until every other member has shown that it lives, or has had the time to: those that are silent
/// are given up. Terminal error when one lives.
pub(super) async fn alone(core: &Core) -> Result<()> {
    let first = others(core).await?;
    if first.is_empty() {
        return Ok(());
    }
    let began = std::time::Instant::now();
    let patience = core.options.lease + core.options.lease / 4;
    while began.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
        let living: Vec<Member> = others(core).await?.into_iter().filter(|member| !first.contains(member)).collect();
        if !living.is_empty() {
            return Err(lives(&living));
        }
    }
    for member in &first {
        core.redis.nodes("give_up", vec![number(member.id), number(member.beat)]).await?;
    }
    // This also says who lives, to whoever takes partitions.
    let rest = others(core).await?;
    if rest.is_empty() { Ok(()) } else { Err(lives(&rest)) }
}

fn lives(members: &[Member]) -> crate::Error {
    let names: Vec<String> = members
        .iter()
        .map(|member| {
            let at = member.info.listen.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
            format!("node {}{at} (process {})", member.id, member.info.pid)
        })
        .collect();
    refused(format!("the store is in use by {}: stop every node first", names.join(", ")))
}
