//! Whether the store can be opened: nobody else has it, its format is ours, it is as configured.

use std::{path::Path, time::SystemTime};

use super::Finding;
use crate::{
    app::{Presence, STORE_FILE, inspect},
    backend::cluster::Cluster,
    config::{Config, Kind, show_duration},
};

pub(super) fn examine(config: &Config, data: &Path) -> Vec<Finding> {
    if config.store.kind == Kind::Cluster {
        return servers(config);
    }
    let file = data.join(STORE_FILE);
    if !file.exists() {
        return vec![Finding::ok("store", "none yet: the first start makes one")];
    }
    let mut findings = vec![match inspect(config) {
        Err(error) => Finding::failure(
            "store",
            error.to_string(),
            "restore a backup, or use the version of Greenroom that made it",
        ),
        Ok(store) => match (store.partitions(), config.store.partitions) {
            (is, configured) if is != configured => Finding::failure(
                "store",
                format!("it has {is} partitions, the configuration says {configured}"),
                format!("set GREENROOM_STORE__PARTITIONS={is}: the number is fixed once a store exists"),
            ),
            (is, _) => Finding::ok("store", format!("readable, {is} partitions")),
        },
    }];
    if let Some(presence) = Presence::find(data) {
        let at = presence.listen.map(|url| format!(" at {url}")).unwrap_or_default();
        findings.push(Finding::warning(
            "other process",
            format!("process {} serves this directory{at}: a second one would be refused", presence.pid),
            format!("nothing, if that is the one you want; else stop it: kill {}", presence.pid),
        ));
    }
    findings.push(clock(&file));
    findings
}

/// Whether both servers answer, and keep what is promised of them.
fn servers(config: &Config) -> Vec<Finding> {
    vec![match Cluster::examine(config.store.cluster()) {
        Ok(found) => Finding::ok("store", found),
        Err(error) => Finding::failure("store", error.to_string(), "start the servers, or change what the line names"),
    }]
}

/// A store written in the future means that the clock was set back, or is wrong now.
fn clock(file: &Path) -> Finding {
    let newest = ["", "-wal"].iter().filter_map(|suffix| {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
    });
    match newest.max().map(|written| written.duration_since(SystemTime::now())) {
        Some(Ok(ahead)) if ahead.as_secs() > 1 => Finding::failure(
            "clock and store",
            format!("the store was last written {} in the future: this clock is behind", show_duration(ahead)),
            "set the clock (timedatectl set-ntp true); timers wait until it has caught up",
        ),
        _ => Finding::ok("clock and store", "the store was written in the past"),
    }
}
