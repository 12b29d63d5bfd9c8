//! What MongoDB must be, looked at before anything is promised (G13): asked at its primary, of which a majority
//! can be waited for, and new enough for the writes that we ask for.

use mongodb::{
    bson::{Document, rawdoc},
    options::{ClientOptions, ReadPreference, SelectionCriteria},
};

use super::{States, wire::primary};
use crate::error::{Error, Result};

/// MongoDB 6.0, by the number of its protocol.
const OLDEST: i32 = 17;

/// Reads the address. Terminal error when it cannot be understood, or asks for reads that may be stale.
pub(super) async fn address(url: &str) -> Result<ClientOptions> {
    let refuse = |why: String| Error::terminal(why).code("bad_config");
    let mut options = ClientOptions::parse(url)
        .await
        .map_err(|e| refuse(format!("the MongoDB address cannot be understood: {}", e.kind)))?;
    match options.selection_criteria.replace(primary()) {
        None | Some(SelectionCriteria::ReadPreference(ReadPreference::Primary)) => Ok(options),
        Some(_) => Err(refuse(
            "the MongoDB address asks for a readPreference other than primary: a state that is read elsewhere may be \
             an old one, so leave readPreference and what belongs to it (readPreferenceTags, maxStalenessSeconds) out"
                .to_owned(),
        )),
    }
}

/// Whether the server is one that can keep what is promised.
pub(in crate::backend::cluster) async fn hello(states: &States) -> Result<()> {
    judge(&states.wire.command("hello", rawdoc! { "hello": 1 }).await?)
}

fn judge(hello: &Document) -> Result<()> {
    let refuse = |why: &str| Err(Error::terminal(format!("MongoDB {why}")).code("cannot_promise"));
    let routed = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !routed && hello.get_str("setName").is_err() {
        return refuse(
            "is a server without a replica set, whose writes may be rolled back or lost: start it with --replSet, and \
             once run rs.initiate(); a set of one member is enough",
        );
    }
    if hello.get_i32("maxWireVersion").unwrap_or(0) < OLDEST {
        return refuse("is older than 6.0");
    }
    if !hello.get_bool("isWritablePrimary").unwrap_or(false) {
        let me = hello.get_str("me").unwrap_or("it");
        let why = format!("is not the primary ({me}): connect to the whole replica set, without directConnection");
        return Err(Error::new(format!("MongoDB {why}")).code("mongodb"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[actix::test]
    async fn an_address_that_asks_for_reads_elsewhere_than_at_the_primary_is_refused() {
        for good in ["retryWrites=true", "readPreference=primary"] {
            address(&format!("mongodb://localhost/?replicaSet=rs0&{good}")).await.unwrap();
        }
        for bad in ["secondary", "secondaryPreferred", "primaryPreferred", "nearest"] {
            let error = address(&format!("mongodb://localhost/?readPreference={bad}")).await.unwrap_err();
            assert!(error.is_terminal() && error.has_code("bad_config") && error.to_string().contains("primary"));
        }
        assert!(address("mongo:/nowhere").await.unwrap_err().has_code("bad_config"));
    }

    #[test]
    fn only_a_primary_that_a_majority_follows_is_good_enough() {
        let judge = |hello: Document| super::judge(&hello);
        let set = doc! { "setName": "rs0", "maxWireVersion": 17, "isWritablePrimary": true };
        let with = |name: &str, value: mongodb::bson::Bson| {
            let mut changed = set.clone();
            changed.insert(name, value);
            changed
        };
        judge(set.clone()).unwrap();
        judge(doc! { "msg": "isdbgrid", "maxWireVersion": 21, "isWritablePrimary": true }).unwrap();
        let alone = judge(doc! { "maxWireVersion": 17, "isWritablePrimary": true }).unwrap_err();
        assert!(alone.is_terminal() && alone.has_code("cannot_promise") && alone.to_string().contains("--replSet"));
        assert!(judge(with("maxWireVersion", 13.into())).unwrap_err().to_string().contains("older"));
        // There may be an election: that passes.
        assert!(!judge(with("isWritablePrimary", false.into())).unwrap_err().is_terminal());
    }
}
