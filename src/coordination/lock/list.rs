//! Who has which lock, for whoever operates.
//!
//! Invariant: it only looks, and reads a bounded number of locks at a time.

use serde::Serialize;

use super::{
    actor::Lock,
    state::{Claim, State},
};
use crate::{
    actor::Actor,
    backend::{Backend, document},
    error::Result,
    query::Query,
    request::RequestId,
};

/// Pages of locks looked at for those that are held: most that are remembered are not.
const PAGES: usize = 20;

/// A lock that somebody has.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    /// Its name.
    lock: String,
    /// The token of its holder.
    token: i64,
    /// Who has it.
    #[serde(flatten)]
    holder: Holder,
    /// How many wait.
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct Holder {
    id: String,
    since: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<i64>,
}

impl Holder {
    fn of(claim: Claim, secret: &[u8; 32]) -> Self {
        let request = claim.asked.as_ref().map(|asked| RequestId::seal(asked.position, secret));
        Self {
            id: claim.by,
            since: claim.since,
            lease_ms: (claim.lease > 0).then_some(claim.lease),
            actor: claim.asked.map(|asked| asked.by.to_string()),
            request,
            node: (claim.lease > 0).then_some(claim.node),
        }
    }
}

/// Up to `limit` locks that somebody has, by name, and where to go on.
pub(crate) async fn held(
    backend: &dyn Backend,
    limit: usize,
    cursor: Option<String>,
) -> Result<(Vec<Seen>, Option<String>)> {
    let (mut held, mut cursor) = (Vec::new(), cursor);
    for _ in 0..PAGES {
        let query = Query { cursor: cursor.take(), ..Query::new().limit(limit - held.len()) };
        let (rows, next) = backend.query(Lock::KIND, query).await?;
        for (lock, doc) in rows {
            let State { token, holder, queue, .. } = document::decode(&doc)?;
            if let Some(holder) = holder {
                let holder = Holder::of(holder, &backend.secret());
                held.push(Seen { lock, token, holder, waiting: queue.len() });
            }
        }
        cursor = next;
        if cursor.is_none() || held.len() >= limit {
            break;
        }
    }
    Ok((held, cursor))
}
