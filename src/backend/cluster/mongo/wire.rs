//! One call to MongoDB: with a limit of time, with what a test wants to become of it, and with an answer that
//! says whether it may have happened.

use std::{sync::Arc, time::Duration};

use mongodb::{
    Database,
    bson::{Document, RawDocumentBuf, doc},
    error::{Error as DriverError, ErrorKind},
    options::{FindOptions, ReadConcern, ReadPreference, SelectionCriteria},
};
use tokio::sync::Notify;

use crate::{
    backend::cluster::inject::{Call, Injector, Store, carry},
    error::Error,
};

/// How long an answer may take before it counts as lost: longer than a majority may be waited for.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a call has no answer to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// MongoDB refused the whole of it: nothing happened.
    Refused {
        /// MongoDB's number for it.
        code: i32,
        /// And its words.
        why: String,
    },
    /// It may have happened, or part of it.
    Unknown(String),
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        match *error.kind {
            ErrorKind::Command(ref refused) => Self::Refused { code: refused.code, why: error.kind.to_string() },
            _ => Self::Unknown(error.kind.to_string()),
        }
    }
}

impl From<mongodb::bson::error::Error> for Fault {
    fn from(error: mongodb::bson::error::Error) -> Self {
        Self::Unknown(format!("what it answered cannot be read: {error}"))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { why, .. } | Self::Unknown(why) => write!(f, "MongoDB: {why}"),
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Error::new(fault.to_string()).code("mongodb")
    }
}

/// The way to the database.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) db: Database,
    faults: Option<Arc<dyn Injector>>,
}

impl Wire {
    pub(super) fn new(db: Database, faults: Option<Arc<dyn Injector>>) -> Self {
        Self { db, faults }
    }

    /// Makes a call, which is known to tests by its name.
    pub(super) async fn call<T: Send, A: Future<Output = Result<T, Fault>> + Send>(
        &self,
        name: &'static str,
        make: impl Fn() -> A + Send + Sync,
    ) -> Result<T, Fault> {
        let Some(faults) = &self.faults else { return within(make()).await };
        carry(Some(&**faults), Store::Mongo, name, &Made { make, cut: Notify::new() }).await
    }

    /// Sends a command.
    pub(super) async fn command(&self, name: &'static str, command: RawDocumentBuf) -> Result<Document, Fault> {
        if self.faults.is_none() {
            return within(async { Ok(self.db.run_raw_command(command).await?) }).await;
        }
        self.call(name, || async { Ok(self.db.run_raw_command(command.clone()).await?) }).await
    }

    /// The documents of a kind that a filter finds, as a majority has them and the primary answers.
    pub(super) async fn find(&self, name: &'static str, find: &Find<'_>) -> Result<Vec<RawDocumentBuf>, Fault> {
        self.call(name, || async {
            let collection = self.db.collection::<RawDocumentBuf>(find.kind);
            let mut found = collection.find(find.filter.clone()).with_options(find.options()).await?;
            let mut all = Vec::new();
            while found.advance().await? {
                all.push(found.current().to_owned());
            }
            Ok(all)
        })
        .await
    }
}

/// What is looked for.
#[derive(Default)]
pub(super) struct Find<'a> {
    pub(super) kind: &'a str,
    pub(super) filter: Document,
    pub(super) projection: Option<Document>,
    pub(super) sort: Option<Document>,
    pub(super) limit: Option<i64>,
}

impl<'a> Find<'a> {
    /// The documents of these keys.
    pub(super) fn keys(kind: &'a str, keys: &[&str]) -> Self {
        Self { kind, filter: doc! { "_id": { "$in": keys } }, ..Self::default() }
    }

    fn options(&self) -> FindOptions {
        FindOptions::builder()
            .selection_criteria(primary())
            .read_concern(ReadConcern::majority())
            .projection(self.projection.clone())
            .sort(self.sort.clone())
            .limit(self.limit)
            .build()
    }
}

/// Every read is of the primary: what a lagging member has would prove nothing.
pub(super) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// Waits for an answer, but not for ever: a server that was stopped still holds its connections.
async fn within<T>(answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::Unknown(format!("no answer within {ANSWER:?}"))),
    }
}

/// A call that a test may interfere with.
struct Made<F> {
    make: F,
    cut: Notify,
}

impl<T: Send, A: Future<Output = Result<T, Fault>> + Send, F: Fn() -> A + Send + Sync> Call for Made<F> {
    type Answer = T;
    type Fault = Fault;

    async fn send(&self) -> Result<T, Fault> {
        tokio::select! {
            biased;
            answer = within((self.make)()) => answer,
            // The driver closes the connection of a call that nobody waits for any more.
            () = self.cut.notified() => Err(self.lost("cut")),
        }
    }

    async fn cut(&self) {
        self.cut.notify_one();
    }

    fn lost(&self, why: &str) -> Fault {
        Fault::Unknown(why.to_owned())
    }
}
