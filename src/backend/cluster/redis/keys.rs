//! What keys are called, and which writing connection is used for what.

use super::Redis;

impl Redis {
    /// What all keys begin with.
    pub(in crate::backend::cluster) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix of a partition's keys.
    pub(in crate::backend::cluster) fn key(&self, partition: u16) -> String {
        format!("{}:{{{partition:04}}}", self.prefix)
    }

    /// The prefix of the keys about nodes.
    pub(in crate::backend::cluster) fn nodes_key(&self) -> String {
        format!("{}:{{nodes}}", self.prefix)
    }

    /// What is said once of the whole store.
    pub(in crate::backend::cluster) fn meta_key(&self) -> String {
        format!("{}:{{meta}}", self.prefix)
    }

    /// Which writing connection a partition uses.
    pub(in crate::backend::cluster) fn lane(&self, partition: u16) -> usize {
        usize::from(partition) % self.servers.lanes()
    }

    /// How many writing connections there are.
    pub(in crate::backend::cluster) fn lanes(&self) -> usize {
        self.servers.lanes()
    }
}
