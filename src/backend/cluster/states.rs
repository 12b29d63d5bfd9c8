//! Commits and states, as the traits ask for them.

use std::{collections::HashMap, sync::Arc};

use super::{
    Cluster, commit,
    mongo::{self, Saved},
    open,
    redis::{int, list, number},
};
use crate::{
    address::{Address, is_kind},
    backend::{Commit, Commits, Decided, Fut, Home, Lease, Loaded, Refused, Rows, States},
    envelope::Position,
    error::{Error, Result},
    query::{Index, Query},
};

/// MongoDB takes documents of 16 MiB (<https://www.mongodb.com/docs/manual/reference/limits/>); names,
/// key and revision need a little of it.
const STATE_LIMIT: usize = (16 << 20) - (16 << 10);

impl Commits for Cluster {
    fn open(&self, lease: Lease, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        let core = self.core.clone();
        Box::pin(async move {
            self.run(async move {
                let place = &core.places[usize::from(lease.partition)];
                let opened = open::open(&core, lease, &addresses).await?;
                for (address, opened) in addresses.iter().zip(&opened) {
                    if core.stateful(address.kind()) {
                        place.saw(lease.epoch, address, opened.loaded.rev, false);
                    }
                }
                Ok(opened.into_iter().map(|opened| opened.loaded).collect())
            })
            .await?
        })
    }

    fn begin(&self, lease: Lease, messages: Vec<(Position, Home)>) -> Fut<'_, Result<Vec<u32>>> {
        let core = self.core.clone();
        let begin = async move {
            let place = &core.places[usize::from(lease.partition)];
            let _one = place.asking.lock().await;
            let mut args = vec![number(lease.epoch), number(place.next_call())];
            args.extend(messages.iter().map(|(position, _)| number(position.number())));
            let counts = list(core.known(lease.partition, "begin", args).await?);
            let counts: Vec<u32> = counts.iter().map(|count| int(count) as u32).collect();
            place.counted(messages.iter().map(|(position, _)| position.number()).zip(counts.iter().copied()));
            Ok(counts)
        };
        Box::pin(async move { self.run(begin).await? })
    }

    fn commit(&self, lease: Lease, batch: Arc<Vec<Commit>>) -> Fut<'_, Vec<Result<(), Refused>>> {
        self.commit_early(lease, batch, Decided::default())
    }

    fn commit_early(
        &self,
        lease: Lease,
        batch: Arc<Vec<Commit>>,
        decided: Decided,
    ) -> Fut<'_, Vec<Result<(), Refused>>> {
        let (core, count) = (self.core.clone(), batch.len());
        Box::pin(async move {
            let committed = self.run(async move { commit::commit(&core, lease, &batch, &decided).await }).await;
            committed.unwrap_or_else(|error| vec![Err(Refused::Unavailable(error.to_string())); count])
        })
    }
}

impl States for Cluster {
    fn declare(&self, kind: &str, stateful: bool, indexes: &[Index]) -> Fut<'_, Result<()>> {
        let (kind, indexes) = (kind.to_owned(), indexes.to_vec());
        Box::pin(async move {
            if !is_kind(&kind) {
                return Err(Error::terminal(format!("kind {kind:?} is not a name")));
            }
            let core = self.core.clone();
            let named = kind.clone();
            self.run(async move { core.states.declare(&named, &indexes).await }).await??;
            self.core.kinds.insert(kind, stateful);
            Ok(())
        })
    }

    fn load(&self, addresses: Vec<Address>) -> Fut<'_, Result<Vec<Loaded>>> {
        let core = self.core.clone();
        let load = async move {
            let mut loaded = vec![Loaded::default(); addresses.len()];
            let mut kinds: HashMap<&str, HashMap<&str, Vec<usize>>> = HashMap::new();
            for (index, address) in addresses.iter().enumerate() {
                kinds.entry(address.kind()).or_default().entry(address.key()).or_default().push(index);
            }
            for (kind, at) in &kinds {
                let keys: Vec<&str> = at.keys().copied().collect();
                for Saved { key, rev, doc, .. } in mongo::load(&core.states, kind, &keys).await? {
                    for index in at.get(&*key).into_iter().flatten() {
                        loaded[*index] = Loaded { rev, doc: doc.clone(), ..Loaded::default() };
                    }
                }
            }
            Ok(loaded)
        };
        Box::pin(async move { self.run(load).await? })
    }

    fn state_limit(&self) -> usize {
        STATE_LIMIT
    }

    fn mongo(&self) -> Option<mongodb::Database> {
        Some(self.core.states.db.clone())
    }

    fn query(&self, kind: &str, query: Query) -> Fut<'_, Result<Rows>> {
        let (core, kind) = (self.core.clone(), kind.to_owned());
        Box::pin(async move { self.run(async move { mongo::query(&core.states, &kind, &query).await }).await? })
    }
}
