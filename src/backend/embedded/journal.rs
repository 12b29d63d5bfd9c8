//! Journals of running commands: rows under their message's position.

use super::Embedded;
use crate::{
    backend::{Fut, Journals},
    envelope::Position,
    error::Result,
};

impl Journals for Embedded {
    fn journal(&self, _: Position) -> Fut<'_, Result<Vec<Vec<u8>>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn journaled(&self, _: u16) -> Fut<'_, Result<Vec<Position>>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}
