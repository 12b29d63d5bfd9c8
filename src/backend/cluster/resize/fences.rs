//! The newest holders of locks, which every partition must know after a resize that some partition knew
//! before: whose appends they were is not written, only where.
//!
//! Invariant: a token only rises, so doing this twice changes nothing.

use std::collections::BTreeMap;

use super::{Doing, Run, text};
use crate::{
    backend::cluster::redis::{arg, int, list, number, raw},
    error::Result,
};

/// Most locks told of at once.
const BATCH: usize = 500;

/// Tells every partition there will be of every holder that any of the first `total` knows.
pub(super) async fn spread(run: &Run<'_>, total: u16) -> Result<()> {
    let mut newest: BTreeMap<Vec<u8>, (i64, i64)> = BTreeMap::new();
    for partition in 0..total {
        let mut cursor = "0".to_owned();
        loop {
            let mut found = list(run.core.redis.look(partition, "fences", vec![text(&cursor)]).await?).into_iter();
            cursor = found.next().and_then(|next| next.into_string()).unwrap_or_else(|| "0".to_owned());
            let found: Vec<_> = found.collect();
            for three in found.chunks_exact(3) {
                let known = newest.entry(raw(three[0].clone())).or_default();
                *known = (*known).max((int(&three[1]), int(&three[2])));
            }
            if cursor == "0" {
                break;
            }
        }
    }
    let newest: Vec<_> = newest.into_iter().collect();
    for partition in 0..run.resize.to {
        for some in newest.chunks(BATCH) {
            run.step(Doing::Fences, partition, some.len())?;
            let three = |(lock, (token, due)): &(Vec<u8>, (i64, i64))| [arg(lock.clone()), number(token), number(due)];
            run.call(partition, "refence", some.iter().flat_map(three).collect()).await?;
        }
    }
    Ok(())
}
