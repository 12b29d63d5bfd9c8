//! What the features of a node declare, and telling the schedules so when the node starts.
//!
//! A schedule that is the same already is not told anything. One that is different is changed at once; while
//! nodes of two builds run, the one that started last has its way. One that a build no longer declares is
//! left alone: whoever takes its next slot looks whether any node that is alive may still declare it, and if
//! none does it stops for good. Nodes say what they declare by a digest, so that is certain only once all of
//! them declare the same; until then it goes on.
//!
//! Invariant: a schedule that some living node declares is never stopped for not being declared.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tracing::{debug, warn};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    actor::{Command, Schedules},
    course::{By, State},
    definition::{Definition, HISTORY, Schedule},
};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::document,
    error::{Error, Result},
    feature::Feature,
    runtime::{node::Node, shared::Shared},
};

/// Schedules looked up at once.
const BATCH: usize = 256;

/// A schedule as a feature declares it. What is wrong with it is told when a node starts.
pub(crate) struct Declaration {
    name: String,
    definition: Result<Definition>,
}

impl Declaration {
    pub(crate) fn new<A: Actor>(name: String, schedule: Schedule, to: At<A>, command: A::Command) -> Self {
        let definition = define(&name, schedule, to, &command, HISTORY);
        Self { name, definition }
    }
}

/// The definition of a schedule of this name. Terminal error that says what is wrong.
pub(crate) fn define<A: Actor>(
    name: &str,
    schedule: Schedule,
    to: At<A>,
    command: &A::Command,
    history: usize,
) -> Result<Definition> {
    let define = || {
        Address::new(Schedules::KIND, name)?;
        let command = serde_json::to_string(command).map_err(|e| Error::from(e).into_terminal())?;
        schedule.define(to.address()?, command, history)
    };
    define().map_err(|error: Error| error.context(format!("schedule {name:?}")))
}

/// All that a node declares.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    by_name: BTreeMap<String, Definition>,
    digest: String,
}

impl Declared {
    /// What these features declare. Terminal error when a definition is wrong, or two have one name.
    pub(crate) fn of(features: &[Feature]) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for Declaration { name, definition } in features.iter().flat_map(|feature| &feature.schedules).map(Arc::as_ref)
        {
            let definition = match definition {
                Ok(definition) => definition.clone(),
                Err(error) => return Err(error.failure(0, 0).to_error()),
            };
            if by_name.insert(name.clone(), definition).is_some() {
                let why = format!("two features declare the schedule {name:?}: their names are unique");
                return Err(Error::terminal(why).code("bad_schedule"));
            }
        }
        let names: Vec<&str> = by_name.keys().map(String::as_str).collect();
        let digest = format!("{:016x}", xxh3_64(names.join("\n").as_bytes()));
        Ok(Self { by_name, digest })
    }

    /// What tells whether two nodes declare schedules of the same names.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether this node declares it, or another may.
    pub(super) fn anywhere(&self, name: &str, shared: &Shared) -> bool {
        let members = || shared.others.as_ref().map(|others| others.members()).unwrap_or_default();
        self.by_name.contains_key(name)
            || members().iter().any(|member| member.info.schedules.as_deref() != Some(&self.digest))
    }
}

/// Tells the schedules what this node declares of them, as long as it takes.
pub(crate) async fn declare(node: Node, declared: Declared) {
    let all: Vec<(&String, &Definition)> = declared.by_name.iter().collect();
    for batch in all.chunks(BATCH) {
        while let Err(error) = tell(&node, batch).await {
            if node.shared.draining() {
                return;
            }
            warn!(%error, "schedules could not be declared, trying again");
            node.clock().rest(Duration::from_secs(1)).await;
        }
    }
}

async fn tell(node: &Node, batch: &[(&String, &Definition)]) -> Result<()> {
    let addresses: Vec<Address> =
        batch.iter().map(|(name, _)| Address::new(Schedules::KIND, name)).collect::<Result<_>>()?;
    let loaded = node.shared.backend.load(addresses).await?;
    for ((name, definition), loaded) in batch.iter().zip(loaded) {
        // What cannot be read was written by a newer build; its own handler says so.
        let state: State = document::decode(&loaded.doc).unwrap_or_default();
        let same = |course: &super::course::Course| course.by == By::Feature && course.definition == **definition;
        if !state.as_ref().is_some_and(same) {
            debug!(schedule = name, "declared");
            node.tell(Schedules::at(name.as_str()), Command::Declare((*definition).clone())).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    struct Bell;

    impl Actor for Bell {
        const KIND: &'static str = "bell";
        type State = u64;
        type Command = u64;
        type Reply = ();

        async fn handle(&self, _: &mut u64, _: u64, _: &Context<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_wrong_with_a_declaration_is_told_with_its_name() {
        let feature = || Feature::new(Bell);
        for (features, why) in [
            (vec![feature().schedule("noon", "0 12 * *", Bell::at("a"), 1)], "schedule \"noon\": cron expression"),
            (vec![feature().schedule("", "0 12 * * *", Bell::at("a"), 1)], "cannot be used: expected 1 to 512 bytes"),
            (vec![feature().schedule("noon", "0 12 * * *", Bell::at(""), 1)], "schedule \"noon\": key"),
            (
                vec![
                    feature().schedule("noon", "0 12 * * *", Bell::at("a"), 1),
                    Feature::default().schedule("noon", "@daily", Bell::at("b"), 1),
                ],
                "two features declare the schedule \"noon\"",
            ),
        ] {
            let error = Declared::of(&features).unwrap_err();
            let text = format!("{error}");
            assert!(error.is_terminal() && text.contains(why), "{text}");
        }
    }

    #[test]
    fn the_digest_is_of_the_names() {
        let of = |names: &[&str], cron: &str| {
            let one = |feature: Feature, name: &&str| feature.schedule(*name, cron, Bell::at("a"), 1);
            Declared::of(&[names.iter().fold(Feature::default(), one)]).unwrap().digest().to_owned()
        };
        assert_eq!(of(&["a", "b"], "@daily"), of(&["b", "a"], "@hourly"));
        assert_ne!(of(&["a", "b"], "@daily"), of(&["ab"], "@daily"));
        assert_ne!(of(&["a"], "@daily"), of(&[], "@daily"));
    }
}
