//! Journals of running commands, each a list of its own beside the partition's other keys.

use super::Cluster;
use crate::{
    backend::{Fut, Journals},
    envelope::Position,
    error::Result,
};

impl Journals for Cluster {
    fn journal(&self, _: Position) -> Fut<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn journaled(&self, _: u16) -> Fut<'_, Result<Vec<Position>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}
