//! What is paused: a hash beside what else is said once of the whole store.

use super::{
    Cluster,
    redis::{arg, int, list, number},
};
use crate::{
    backend::{Fut, MOST_PAUSED, Paused, Pauses, Scope, pauses::too_many},
    error::Result,
};

impl Pauses for Cluster {
    fn pause(&self, scope: Scope, at: i64) -> Fut<'_, Result<bool>> {
        let args = vec![arg(scope.to_string()), number(at), number(MOST_PAUSED)];
        Box::pin(async move {
            match int(&self.core.declared("pause", args).await?) {
                -1 => Err(too_many()),
                paused => Ok(paused == 1),
            }
        })
    }

    fn resume(&self, scope: Scope) -> Fut<'_, Result<bool>> {
        let args = vec![arg(scope.to_string())];
        Box::pin(async move { Ok(int(&self.core.declared("resume", args).await?) == 1) })
    }

    fn paused(&self) -> Fut<'_, Result<Vec<Paused>>> {
        Box::pin(async move {
            let found = list(self.core.redis.look_meta("paused").await?);
            let one = |pair: &[fred::types::Value]| {
                // What names nothing pauses nothing.
                let scope: Scope = pair[0].as_str()?.parse().ok()?;
                Some(Paused { scope, since: int(&pair[1]) })
            };
            let mut paused: Vec<Paused> = found.chunks_exact(2).filter_map(one).collect();
            paused.sort_by(|one, other| one.scope.cmp(&other.scope));
            Ok(paused)
        })
    }
}
