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

mod claim;
mod declare;
mod find;
mod forget;
pub(super) mod partitions;
mod refusal;
mod server;
mod update;
mod wire;
mod write;

use std::time::Duration;

use mongodb::{
    Client, Database,
    bson::{doc, rawdoc},
};
use tokio::sync::mpsc;

use self::wire::Wire;
pub(super) use self::{
    find::{Saved, load, marks, query},
    forget::{forget, forgotten},
    server::hello,
    write::{StateOp, Written},
};
use super::Options;
use crate::error::{Error, Result};

/// The database of the states.
pub(super) struct States {
    pub(super) db: Database,
    wire: Wire,
    /// For groups as large as they come, and for those of several tenants.
    writers: [mpsc::UnboundedSender<StateOp>; 2],
}

/// Turns a driver's error into ours.
fn fault(error: mongodb::error::Error) -> Error {
    Error::new(format!("MongoDB: {}", error.kind)).code("mongodb")
}

impl States {
    /// Connects, and starts writing groups. Terminal error when the address cannot be understood, or asks for
    /// reads that may be stale.
    pub(super) async fn connect(asked: &Options) -> Result<Self> {
        let mut options = server::address(&asked.mongo).await?;
        options.app_name.get_or_insert_with(|| "greenroom".to_owned());
        options.server_selection_timeout.get_or_insert(Duration::from_secs(5));
        options.connect_timeout.get_or_insert(Duration::from_secs(3));
        // A write whose answer is lost is asked for again by its revision, never by the driver.
        options.retry_writes = Some(false);
        let client = Client::with_options(options).map_err(fault)?;
        let database = client.database(&asked.database);
        database.run_command(doc! { "ping": 1 }).await.map_err(fault)?;
        let wire = Wire::new(database.clone(), asked.faults.clone());
        let writers = [write::WRITERS, write::SHARED].map(|writers| write::start(&wire, writers));
        Ok(Self { db: database, wire, writers })
    }

    /// Writes a state with the next group, which is sooner where several tenants take turns; the answer comes
    /// through the operation.
    pub(super) fn write(&self, op: StateOp, several: bool) {
        // The writers end with the store; whoever waits finds its answer dropped.
        let _ = self.writers[usize::from(several)].send(op);
    }

    /// Whether a write reaches a majority.
    pub(super) async fn ready(&self) -> Result<()> {
        let command = rawdoc! {
            "update": "greenroom_probe",
            "updates": [{ "q": { "_id": "probe" }, "u": { "$inc": { "n": 1 } }, "upsert": true }],
            "writeConcern": { "w": "majority", "j": true, "wtimeout": 5000 },
        };
        let answer = self.wire.command("ready", command).await?;
        match answer.get_document("writeConcernError") {
            Ok(error) => Err(Error::new(format!("MongoDB cannot write to a majority: {error:?}")).code("mongodb")),
            Err(_) => Ok(()),
        }
    }
}
