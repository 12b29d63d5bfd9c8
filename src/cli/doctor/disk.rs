//! Whether the data directory is on something that keeps what it says it keeps, and how fast.

use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::Finding;

/// Below this the next hours may fill the disk.
const LOW_SPACE: u64 = 1 << 30;
/// Below this SQLite may not be able to finish what it began.
const NO_SPACE: u64 = 64 << 20;

pub(super) fn examine(data: &Path) -> Vec<Finding> {
    // A directory that is not there yet will be made where its nearest ancestor is.
    let place = data.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let mut findings = vec![match measure(place) {
        Ok(_) if place == data => Finding::ok("data directory", format!("{} is writable", data.display())),
        Ok(_) => Finding::ok("data directory", format!("{} will be made at the first start", data.display())),
        Err(error) => Finding::failure(
            "data directory",
            format!("{} cannot be written: {error}", place.display()),
            format!(
                "chown it to the user that serves, or name another with --data: sudo chown $USER {}",
                place.display()
            ),
        ),
    }];
    findings.push(filesystem(place));
    if let Ok(times) = measure(place) {
        findings.push(speed(times));
    }
    findings.push(space(place));
    findings
}

/// The median time to make 4 KiB durable, of enough tries to be telling and few enough to be quick.
fn measure(place: &Path) -> std::io::Result<Duration> {
    let path = place.join(format!(".greenroom-doctor-{}", std::process::id()));
    let measured = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let mut times = Vec::new();
        for _ in 0..21 {
            file.write_all(&[0x5a; 4096])?;
            let began = Instant::now();
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    })();
    // Left behind only if the directory became read-only in between.
    let _ = std::fs::remove_file(&path);
    measured
}

fn speed(median: Duration) -> Finding {
    let found = format!("4 KiB are durable in {:.2} ms (median)", median.as_secs_f64() * 1000.0);
    if median < Duration::from_micros(15) {
        return Finding::warning(
            "disk speed",
            format!("{found}: no disk is that fast, so a power cut may lose what it said it kept"),
            "use a disk that honours fsync; in a virtual machine, set its cache mode to writethrough or none",
        );
    }
    if median > Duration::from_millis(20) {
        return Finding::warning(
            "disk speed",
            format!("{found}: every answer waits for that"),
            "use a local solid-state disk, not a network one",
        );
    }
    Finding::ok("disk speed", found)
}

fn filesystem(place: &Path) -> Finding {
    const CHECK: &str = "filesystem";
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return Finding::skipped(CHECK, "not looked at: this system has no /proc/self/mountinfo");
    };
    let place = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    match kind(&mounts, &place) {
        None => Finding::skipped(CHECK, format!("nothing is known of the filesystem of {}", place.display())),
        Some(kind) => judge(&kind),
    }
}

fn judge(kind: &str) -> Finding {
    const CHECK: &str = "filesystem";
    let local = "use a directory on a local disk: --data /var/lib/greenroom";
    match kind {
        "tmpfs" | "ramfs" => {
            Finding::failure(CHECK, format!("{kind}: everything is lost when the machine restarts"), local)
        }
        "overlay" | "aufs" => Finding::warning(
            CHECK,
            format!("{kind}: inside a container's own layer, which is lost with the container"),
            "mount a volume and name it with --data",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "ceph" | "glusterfs" | "virtiofs" | "vboxsf" => {
            Finding::warning(
                CHECK,
                format!("{kind}: a network or shared filesystem, whose locks and fsync may not mean what they say"),
                local,
            )
        }
        kind if kind.starts_with("fuse") => Finding::warning(
            CHECK,
            format!("{kind}: a filesystem in user space, whose locks and fsync may not mean what they say"),
            local,
        ),
        kind => Finding::ok(CHECK, format!("{kind}, local")),
    }
}

/// The type of the filesystem that `place` is on: of the mounts that hold it, the deepest, and of
/// equally deep ones the last, which covers the others.
fn kind(mounts: &str, place: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        // 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/root rw
        let (before, after) = line.split_once(" - ")?;
        let mount = PathBuf::from(unescape(before.split(' ').nth(4)?));
        let kind = after.split(' ').next()?;
        let depth = mount.components().count();
        if place.starts_with(&mount) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, kind.to_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// mountinfo writes blanks in paths as octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(unix)]
fn space(place: &Path) -> Finding {
    const CHECK: &str = "disk space";
    let Ok(stat) = rustix::fs::statvfs(place) else {
        return Finding::skipped(CHECK, "the free space cannot be read");
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free", super::machine::about(free));
    let mend = "free some, or use another disk; results are kept for runtime.retention";
    match free {
        _ if free < NO_SPACE => Finding::failure(CHECK, found, mend),
        _ if free < LOW_SPACE => Finding::warning(CHECK, found, mend),
        _ if stat.f_files > 0 && stat.f_favail < 100 => Finding::failure(CHECK, "no inodes are left", mend),
        _ => Finding::ok(CHECK, found),
    }
}

#[cfg(not(unix))]
fn space(_: &Path) -> Finding {
    Finding::skipped("disk space", "not looked at on this system")
}

#[cfg(test)]
mod tests {
    use super::{super::Level, *};

    #[test]
    fn the_deepest_mount_decides() {
        let mounts = "22 1 0:1 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:2 / /tmp rw shared:1 - tmpfs tmpfs rw\n\
                      31 22 0:3 / /mnt/my\\040disk rw - xfs /dev/vdb rw\n\
                      32 30 0:4 / /tmp rw - btrfs /dev/vdc rw";
        let of = |path: &str| kind(mounts, Path::new(path)).unwrap();
        assert_eq!(
            [of("/srv"), of("/tmp/data"), of("/mnt/my disk/data"), of("/tmpfile")],
            ["ext4", "btrfs", "xfs", "ext4"]
        );
    }

    #[test]
    fn what_forgets_or_lies_is_told() {
        assert_eq!(judge("tmpfs").level, Level::Failure);
        for kind in ["overlay", "nfs4", "fuse.sshfs"] {
            assert_eq!(judge(kind).level, Level::Warning, "{kind}");
        }
        assert_eq!(judge("ext4").level, Level::Ok);
        assert_eq!(speed(Duration::from_micros(2)).level, Level::Warning);
        assert_eq!(speed(Duration::from_millis(50)).level, Level::Warning);
        assert_eq!(speed(Duration::from_micros(800)).level, Level::Ok);
    }

    #[test]
    fn looking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let findings = examine(&dir.path().join("not/there/yet"));
        assert!(findings[0].found.contains("will be made"), "{:?}", findings[0]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
