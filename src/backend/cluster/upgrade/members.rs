//! Who serves a store, of whatever build: a member is its number, and a text that begins with its beat. Builds of
//! format 1 have no token after it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    backend::{
        NodeInfo,
        cluster::redis::{Redis, list, number},
    },
    error::Result,
};

/// How often it looks whether a member lives.
const LOOK: Duration = Duration::from_millis(50);

/// What a member says of itself: its beat, whether it has a token, and the rest.
fn parts(text: &str) -> Option<(u64, bool, &str)> {
    let (beat, rest) = text.split_once(' ')?;
    let beat = beat.parse().ok()?;
    match rest.split_once(' ') {
        Some((token, info)) if token.bytes().all(|byte| byte.is_ascii_digit()) => Some((beat, true, info)),
        _ => Some((beat, false, rest)),
    }
}

/// Whether a member is of a build of format 1.
pub(super) fn is_old(text: &str) -> bool {
    parts(text).is_some_and(|(_, token, _)| !token)
}

async fn members(redis: &Redis, of: fn(&str) -> bool) -> Result<HashMap<u64, String>> {
    let found = list(redis.nodes("members", Vec::new()).await?);
    let pairs = found.chunks_exact(2).filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_string()?)));
    Ok(pairs.filter(|(_, text)| of(text)).collect())
}

/// Members that show within a lease time that they live, by name. Those that do not are given up.
pub(super) async fn living(redis: &Redis, lease: Duration, of: fn(&str) -> bool) -> Result<Vec<String>> {
    let first = members(redis, of).await?;
    let (began, patience) = (Instant::now(), lease + lease / 4);
    while !first.is_empty() && began.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
        let now = members(redis, of).await?;
        let living: Vec<_> = now.iter().filter(|(id, text)| first.get(id) != Some(text)).collect();
        if !living.is_empty() {
            return Ok(living.into_iter().map(|(id, text)| name(*id, text)).collect());
        }
    }
    for (id, text) in &first {
        if let Some((beat, ..)) = parts(text) {
            redis.nodes("give_up", vec![number(id), number(beat)]).await?;
        }
    }
    // One that lives after all was not given up.
    Ok(members(redis, of).await?.into_iter().map(|(id, text)| name(id, &text)).collect())
}

fn name(id: u64, text: &str) -> String {
    let info: NodeInfo = parts(text).and_then(|(.., info)| serde_json::from_str(info).ok()).unwrap_or_default();
    let at = info.listen.as_ref().map(|url| format!(" at {url}")).unwrap_or_default();
    format!("node {id}{at} (process {}, version {})", info.pid, info.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_an_older_build_has_no_token() {
        let old = r#"41 {"listen":"http://a b","pid":7,"version":"0.1.0","since":5}"#;
        let new = r#"41 8261 {"listen":"http://a","pid":7,"version":"0.2.0","since":5}"#;
        assert!(is_old(old) && !is_old(new));
        assert!(name(3, old).starts_with("node 3 at http://a b (process 7"), "{}", name(3, old));
        assert!(name(3, new).contains("version 0.2.0"));
    }
}
