//! Who runs what, for operators: the nodes that share the store, and who has each partition.
//!
//! Invariant: what is shown of other nodes is what they said of themselves; who owns a partition is
//! what its lease says.

use serde::Serialize;

use super::node::Node;
use crate::{
    backend::{Backend, Ledger, Owner},
    error::Result,
};

/// A node, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its number.
    pub id: u64,
    /// Whether it is the one that answers.
    pub me: bool,
    /// The URL of its gateway, if it has one.
    pub listen: Option<String>,
    /// Its process id.
    pub pid: u32,
    /// Its build.
    pub version: String,
    /// When it joined, in milliseconds since the Unix epoch, by its own clock.
    pub since: i64,
    /// The partitions it owns.
    pub partitions: Vec<u16>,
}

/// A partition, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionView {
    /// Its number.
    pub partition: u16,
    /// The node that owns it; `None` when nobody does.
    pub node: Option<u64>,
    /// Which owner in its history that is.
    pub epoch: u64,
    /// Messages in it that have not ended, by its ledger.
    pub in_flight: i64,
    /// Bytes waiting in its mailbox.
    pub bytes: u64,
    /// The rest of its ledger.
    #[serde(flatten)]
    pub ledger: Ledger,
}

impl Node {
    /// The nodes that share the store, by number.
    pub async fn nodes(&self) -> Result<Vec<NodeView>> {
        let shared = &self.shared;
        let me = shared.backend.me();
        // Not those of this node's last beat: a node that serves is to be found here at once.
        let members = shared.backend.members().await?;
        let owners = shared.backend.owners().await?;
        let mut nodes: Vec<NodeView> = members
            .into_iter()
            .map(|member| NodeView {
                id: member.id,
                me: member.id == me,
                listen: member.info.listen,
                pid: member.info.pid,
                version: member.info.version,
                since: member.info.since,
                partitions: owned(&owners, member.id),
            })
            .collect();
        // What this node knows of itself better than the store does.
        for node in nodes.iter_mut().filter(|node| node.me) {
            node.listen = shared.listen.get().cloned().or(node.listen.take());
            node.since = if node.since == 0 { shared.since } else { node.since };
        }
        nodes.sort_unstable_by_key(|node| node.id);
        Ok(nodes)
    }

    /// Who has each partition and what is in it, by number.
    pub async fn partitions(&self) -> Result<Vec<PartitionView>> {
        partitions(&*self.shared.backend).await
    }

    /// Tells the other nodes, and other processes of this machine, where this node's gateway is.
    pub async fn announce(&self, url: &str) -> Result<()> {
        // A gateway keeps its address for as long as the node lives.
        let _ = self.shared.listen.set(url.to_owned());
        self.shared.backend.announce(url).await
    }
}

/// Who has each partition of a store and what is in it, by number.
pub(crate) async fn partitions(backend: &dyn Backend) -> Result<Vec<PartitionView>> {
    let (owners, ledgers) = (backend.owners().await?, backend.ledgers().await?);
    let partitions = (0u16..).zip(owners).zip(ledgers).map(|((partition, owner), ledger)| PartitionView {
        partition,
        node: (owner.node != 0).then_some(owner.node),
        epoch: owner.epoch,
        in_flight: ledger.in_flight(),
        bytes: ledger.bytes,
        ledger,
    });
    Ok(partitions.collect())
}

fn owned(owners: &[Owner], node: u64) -> Vec<u16> {
    (0u16..).zip(owners).filter(|(_, owner)| owner.node == node).map(|(partition, _)| partition).collect()
}
