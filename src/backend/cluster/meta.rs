//! What is said once of the whole store: its secret, how many partitions it has, and whether it is being
//! resized.
//!
//! Invariant: while it says that the store is being resized, no node serves it.

use super::{
    Core,
    durability::Durable,
    redis::{self, Redis, Repeat, arg, number},
};
use crate::error::{Error, Result};

/// The format of the store that this build makes and serves: see `functions/base.lua`.
pub(super) const FORMAT: u16 = 2;

/// The hash `<prefix>:{meta}`. Since format 2 `resize` says what `resizing` said before, which says there that
/// older builds cannot serve the store.
pub(super) struct Meta {
    /// How many partitions there are.
    pub(super) partitions: u16,
    /// How many there ever were, if that was ever changed.
    pub(super) ever: Option<u16>,
    /// From which request ids are made.
    pub(super) secret: [u8; 32],
    /// The resize that is not finished.
    pub(super) resizing: Option<Resizing>,
    /// How everything is kept: 1 when it does not say.
    pub(super) format: u16,
    /// Whether it had an older format once.
    pub(super) upgraded: bool,
}

/// A resize that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resizing {
    /// How many partitions there are to be.
    pub(super) to: u16,
    /// Whether messages have moved; before that it can be called off.
    pub(super) moving: bool,
}

impl Meta {
    /// Makes a new store, unless there is one.
    pub(super) async fn create(redis: &Redis, durable: &Durable, partitions: u16) -> Result<()> {
        let secret: String =
            [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(|half| half.simple().to_string()).concat();
        let call = ("create", vec![number(partitions), arg(secret), number(FORMAT)]);
        redis.write(0, &redis.meta_key(), call, Repeat::Safe, durable).await?;
        Ok(())
    }

    /// Terminal error (`no_store`) when there is no store, and (`newer_format`) when a newer build has made it.
    pub(super) async fn read(redis: &Redis) -> Result<Self> {
        let names = ["partitions", "secret", "ever", "format", "resize", "resizing", "upgraded"];
        let fields = redis.fields(redis.meta_key(), &names).await?;
        let found = redis::list(fields);
        let at = |index: usize| found.get(index).map_or(0, redis::int) as u16;
        let text = |index: usize| found.get(index).and_then(|value| value.as_string());
        let Some(secret) = text(1).filter(|_| at(0) > 0) else {
            let error =
                format!("Redis holds no store with the prefix {:?}: `greenroom serve` makes one", redis.prefix());
            return Err(Error::terminal(error).code("no_store"));
        };
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = secret.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = pair.ok_or_else(|| Error::terminal("the store's secret is damaged").code("no_store"))?;
        }
        let ever = (at(2) > 0).then(|| at(2));
        let format = at(3).max(1);
        if format > FORMAT {
            return Err(Error::terminal(format!(
                "the store has format {format}, and this build knows formats up to {FORMAT}: serve it with the build \
                 that made it, or a newer one"
            ))
            .code("newer_format"));
        }
        let mark = match format {
            // Its upgrade has begun.
            1 => text(5).filter(|text| !text.starts_with("format ")),
            _ => text(4),
        };
        let resizing = mark.map(|text| resizing(&text)).transpose()?;
        Ok(Self { partitions: at(0), ever, secret: bytes, resizing, format, upgraded: at(6) == 1 })
    }

    /// Terminal error when it is being resized.
    pub(super) fn is_whole(&self) -> Result<()> {
        let Some(Resizing { to, .. }) = self.resizing else { return Ok(()) };
        if self.format < FORMAT {
            return Err(Error::terminal(format!(
                "the store has format {} and is being resized from {} to {to} partitions: finish that with the build \
                 that began it (`greenroom partitions resize {to}`), then upgrade it",
                self.format, self.partitions
            ))
            .code("resizing"));
        }
        Err(Error::terminal(format!(
            "the store is being resized from {} to {to} partitions: if nobody does that any more, `greenroom \
             partitions resize {to}` goes on where it was interrupted",
            self.partitions
        ))
        .code("resizing"))
    }

    /// Terminal error (`old_format`) when it is not of this build's format yet.
    pub(super) fn is_new(&self) -> Result<()> {
        if self.format == FORMAT {
            return Ok(());
        }
        Err(Error::terminal(format!(
            "the store has format {}, and this build reads format {FORMAT}: `greenroom store upgrade` brings it there, \
             and so does the first node of this build that starts",
            self.format
        ))
        .code("old_format"))
    }

    /// Terminal error when a node that knows so many partitions cannot serve it.
    pub(super) fn serves(&self, partitions: u16) -> Result<()> {
        self.is_whole()?;
        if self.partitions == partitions {
            return Ok(());
        }
        let (is, asked) = (self.partitions, partitions);
        let error = format!(
            "the store has {is} partitions and store.partitions is {asked}: set it to {is} (`greenroom partitions \
             resize` changes how many a store has)"
        );
        Err(Error::terminal(error).code("other_partitions"))
    }
}

/// `<to> preparing`, `<to> moving`
fn resizing(text: &str) -> Result<Resizing> {
    let parsed = text.split_once(' ').and_then(|(to, phase)| {
        Some(Resizing { to: to.parse().ok().filter(|to| *to > 0)?, moving: phase == "moving" })
    });
    parsed.ok_or_else(|| Error::terminal(format!("the store is being resized to {text:?}, which cannot be read")))
}

impl Resizing {
    /// Says so, durably before anything else is done.
    pub(super) async fn mark(self, core: &Core) -> Result<()> {
        let phase = if self.moving { "moving" } else { "preparing" };
        core.declared("mark", vec![arg(format!("{} {phase}", self.to))]).await?;
        Ok(())
    }

    /// Says that the store is as it was.
    pub(super) async fn call_off(core: &Core) -> Result<()> {
        core.declared("mark", vec![arg("")]).await?;
        Ok(())
    }

    /// Says that it is resized.
    pub(super) async fn finish(self, core: &Core, ever: u16) -> Result<()> {
        core.declared("finish", vec![number(self.to), number(ever)]).await?;
        Ok(())
    }
}
