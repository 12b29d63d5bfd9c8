//! State in MongoDB: one document per actor, in a collection per kind.
//!
//! ```text
//! { _id: key, state: …, rev, epoch, witness, redo }
//! { _id: key, gone: when, rev, epoch, witness, redo }      of an actor that was forgotten
//! ```
//!
//! `rev` counts the writes, `epoch` is the newest lease that touched the document; every write names
//! the revision it was made from and refuses a newer epoch. `redo` is what else the commit that wrote
//! this state has to do in Redis, and `witness` the position of a message that ends by it: see the
//! [protocol](super).

mod find;
mod forget;
pub(super) mod partitions;
mod write;

use std::time::Duration;

use mongodb::{
    Client, Database, IndexModel,
    bson::{Document, doc},
    options::{ClientOptions, IndexOptions},
};
use tokio::sync::mpsc;

pub(super) use self::{
    find::{Saved, hello, load, query},
    forget::{forget, forgotten},
    write::{StateOp, Written},
};
use crate::{
    error::{Error, Result},
    query::Index,
};

/// The database of the states.
pub(super) struct States {
    pub(super) db: Database,
    /// For groups as large as they come, and for those of several tenants.
    writers: [mpsc::UnboundedSender<StateOp>; 2],
}

/// How long an answer may take before it counts as lost: longer than a majority may be waited for.
const ANSWER: Duration = Duration::from_secs(15);

/// Waits for an answer, but not for ever: a server that was stopped still holds its connections.
async fn within<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(format!("MongoDB did not answer within {ANSWER:?}")).code("mongodb")),
    }
}

/// Turns a driver's error into ours.
fn fault(error: mongodb::error::Error) -> Error {
    Error::new(format!("MongoDB: {}", error.kind)).code("mongodb")
}

impl States {
    /// Connects, and starts writing groups. Terminal error when the address cannot be understood.
    pub(super) async fn connect(url: &str, database: &str) -> Result<Self> {
        let mut options = ClientOptions::parse(url).await.map_err(|e| {
            Error::terminal(format!("the MongoDB address cannot be understood: {}", e.kind)).code("bad_config")
        })?;
        options.app_name.get_or_insert_with(|| "greenroom".to_owned());
        options.server_selection_timeout.get_or_insert(Duration::from_secs(5));
        options.connect_timeout.get_or_insert(Duration::from_secs(3));
        // A write whose answer is lost is asked for again by its revision, never by the driver.
        options.retry_writes = Some(false);
        let client = Client::with_options(options).map_err(fault)?;
        let database = client.database(database);
        database.run_command(doc! { "ping": 1 }).await.map_err(fault)?;
        let writers = [write::WRITERS, write::SHARED].map(|writers| write::start(&database, writers));
        Ok(Self { db: database, writers })
    }

    /// Writes a state with the next group, which is sooner where several tenants take turns; the answer comes
    /// through the operation.
    pub(super) fn write(&self, op: StateOp, several: bool) {
        // The writers end with the store; whoever waits finds its answer dropped.
        let _ = self.writers[usize::from(several)].send(op);
    }

    /// Creates the indexes of a kind.
    pub(super) async fn declare(&self, kind: &str, indexes: &[Index]) -> Result<()> {
        let mut models: Vec<IndexModel> = indexes
            .iter()
            .map(|index| {
                let mut keys = Document::new();
                for field in index.fields() {
                    keys.insert(format!("state.{field}"), 1);
                }
                // Equal sort values go on by key, as in every backend.
                keys.insert("_id", 1);
                let name = format!("greenroom_{}", index.fields().join("_"));
                IndexModel::builder().keys(keys).options(IndexOptions::builder().name(name).build()).build()
            })
            .collect();
        models.push(forget::index());
        let collection = self.db.collection::<Document>(kind);
        collection
            .create_indexes(models)
            .await
            .map(drop)
            .map_err(|e| fault(e).context(format!("the indexes of {kind}")))
    }

    /// Whether a write reaches a majority.
    pub(super) async fn ready(&self) -> Result<()> {
        let command = doc! {
            "update": "greenroom_probe",
            "updates": [{ "q": { "_id": "probe" }, "u": { "$inc": { "n": 1 } }, "upsert": true }],
            "writeConcern": { "w": "majority", "j": true, "wtimeout": 5000 },
        };
        let answer = self.db.run_command(command).await.map_err(fault)?;
        match answer.get_document("writeConcernError") {
            Ok(error) => Err(Error::new(format!("MongoDB cannot write to a majority: {error}")).code("mongodb")),
            Err(_) => Ok(()),
        }
    }
}
