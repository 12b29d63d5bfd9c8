//! Whether the machine has what the configured bounds need: cores, memory, files, a sane clock.

use std::{path::Path, time::SystemTime};

use super::Finding;
use crate::config::Config;

/// 2026-01-01: a clock before the first release is wrong.
const FIRST_RELEASE: u64 = 1_767_225_600;

pub(super) fn examine(config: &Config, _: &Path) -> Vec<Finding> {
    vec![cores(config), memory(config), swap(), files(config), clock()]
}

fn cores(config: &Config) -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = config.runtime.settings().arbiters;
    let found = format!("{cores} core{}, {threads} actor threads", if cores == 1 { "" } else { "s" });
    if cores == 1 {
        return Finding::warning("cores", found, "two or more let HTTP, actors and the disk work at once");
    }
    if threads > cores * 2 {
        return Finding::warning("cores", format!("{found}: they take turns"), "set runtime.arbiters to \"auto\"");
    }
    Finding::ok("cores", found)
}

/// What the bounds add up to, against what there is.
fn memory(config: &Config) -> Finding {
    const CHECK: &str = "memory";
    let runtime = config.runtime.settings();
    let windows = (runtime.window_bytes as u64).saturating_mul(config.store.partitions.into());
    let budget = (runtime.activation_bytes as u64).saturating_add(windows);
    let Some(there) = limit() else {
        return Finding::skipped(CHECK, "not looked at: this system has no /proc/meminfo");
    };
    let found = format!("{} of budgets, {} available", about(budget), about(there));
    if budget > there {
        return Finding::failure(
            CHECK,
            format!("{found}: the process would be killed under load"),
            "lower runtime.activation_bytes, runtime.window_bytes or store.partitions, or add memory",
        );
    }
    if budget > there / 2 {
        return Finding::warning(
            CHECK,
            format!("{found}: little is left for everything else"),
            "lower runtime.activation_bytes or runtime.window_bytes, or add memory",
        );
    }
    Finding::ok(CHECK, found)
}

/// Available memory, or the container's limit if that is less.
fn limit() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let available = field(&meminfo, "MemAvailable:")?;
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(container.map_or(available, |container: u64| container.min(available)))
}

/// A field of /proc/meminfo, in bytes.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

fn swap() -> Finding {
    let Ok(meminfo) = std::fs::read_to_string("/proc/meminfo") else {
        return Finding::skipped("swap", "not looked at: this system has no /proc/meminfo");
    };
    let (total, free) = (field(&meminfo, "SwapTotal:").unwrap_or(0), field(&meminfo, "SwapFree:").unwrap_or(0));
    let used = total.saturating_sub(free);
    if used > total / 2 && used > 256 << 20 {
        return Finding::warning(
            "swap",
            format!("{} are swapped out: an actor that was may answer seconds late", about(used)),
            "add memory, or lower vm.swappiness",
        );
    }
    Finding::ok("swap", if total == 0 { "none".into() } else { format!("{} used", about(used)) })
}

#[cfg(unix)]
fn files(config: &Config) -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    // Serving raises the soft limit to this one by itself. A connection takes one file; the store,
    // threads and logs take some.
    let wanted = (config.gateway.max_connections as u64).saturating_mul(config.gateway.workers as u64) + 256;
    let mend = format!(
        "ulimit -Hn {wanted} before starting (as root), LimitNOFILE={wanted} in a systemd unit,\nor lower \
         gateway.max_connections ({} for each of {} HTTP threads)",
        config.gateway.max_connections, config.gateway.workers
    );
    match limit {
        None => Finding::ok("open files", "no limit"),
        Some(limit) if limit < 1024 => Finding::failure("open files", format!("at most {limit}"), mend),
        Some(limit) if limit < wanted => Finding::warning(
            "open files",
            format!("at most {limit}: connections beyond that wait, though {wanted} may come"),
            mend,
        ),
        Some(limit) => Finding::ok("open files", format!("at most {limit}")),
    }
}

#[cfg(not(unix))]
fn files(_: &Config) -> Finding {
    Finding::skipped("open files", "not looked at on this system")
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if now < FIRST_RELEASE {
        return Finding::failure(
            "clock",
            format!("it says {}: that is wrong", crate::cli::output::moment((now * 1000) as i64)),
            "set it: timedatectl set-ntp true",
        );
    }
    // systemd-timesyncd leaves this mark once it has set the clock; others keep their own.
    let managed = Path::new("/run/systemd/timesync").exists();
    if managed && !Path::new("/run/systemd/timesync/synchronized").exists() {
        return Finding::warning(
            "clock",
            "not synchronised yet: timers fire by a clock that may be wrong",
            "look at it: timedatectl status",
        );
    }
    Finding::ok("clock", crate::cli::output::moment((now * 1000) as i64))
}

/// A size for people: three digits at most.
pub(super) fn about(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(factor, _)| bytes >= *factor) {
        Some((factor, unit)) => {
            let value = bytes as f64 / factor as f64;
            if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let meminfo = "MemTotal:       100 kB\nMemAvailable:    50 kB\nSwapTotal: 0 kB\n";
        assert_eq!(field(meminfo, "MemAvailable:"), Some(50 << 10));
        assert_eq!(field(meminfo, "Nothing:"), None);
        assert_eq!([about(900), about(1536), about(77 << 30)], ["900 B", "1.5 KiB", "77 GiB"]);
    }
}
