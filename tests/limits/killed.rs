//! Processes that share permits, one of which is killed while it holds one.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use greenroom::{backend::embedded, testing::Which};

use crate::support::{PATIENCE, build};

const LEASE: Duration = Duration::from_secs(2);

/// A process, killed when dropped.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Holder {
    fn start(
        options: &greenroom::backend::cluster::Options,
        dir: &Path,
        mode: &str,
        told: &mpsc::Sender<Vec<u32>>,
    ) -> Self {
        let mut child = Command::new(build::example("permit-holder"))
            .env("HOLDER_DIR", dir)
            .env("HOLDER_MODE", mode)
            .env("GREENROOM_STORE__KIND", "cluster")
            .env("GREENROOM_STORE__REDIS", &options.redis)
            .env("GREENROOM_STORE__MONGO", &options.mongo)
            .env("GREENROOM_STORE__DATABASE", &options.database)
            .env("GREENROOM_STORE__PREFIX", &options.prefix)
            .env("GREENROOM_STORE__PARTITIONS", "4")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, told) = (BufReader::new(child.stdout.take().unwrap()).lines(), told.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if told.send(line.split(' ').map(|id| id.parse().unwrap()).collect()).is_err() {
                    return;
                }
            }
        });
        Self(child)
    }
}

#[test]
fn the_permit_of_a_killed_process_is_free_after_its_lease_and_never_before() {
    let which = match Which::from_env().unwrap() {
        Which::Embedded => Which::Redis,
        which => which,
    };
    let options = which.cluster(&embedded::Options { partitions: 4, ..Default::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (told, inside) = mpsc::channel();
    let next = || inside.recv_timeout(PATIENCE).unwrap();
    let mut holder = Holder::start(&options, dir.path(), "hold", &told);
    let dead = holder.0.id();
    assert_eq!(next(), [dead]);
    let _others =
        [Holder::start(&options, dir.path(), "work", &told), Holder::start(&options, dir.path(), "work", &told)];
    // With the holder two are in, never three, though both others want to be.
    for _ in 0..30 {
        let inside = next();
        assert!(inside.len() == 2 && inside.contains(&dead), "{inside:?}");
    }
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    let killed = Instant::now();
    std::fs::remove_file(dir.path().join(dead.to_string())).unwrap();
    let mut before = 0;
    loop {
        let inside = next();
        assert!(inside.len() <= 2, "{inside:?} are in");
        if inside.contains(&dead) {
            // That was said before it was.
            continue;
        }
        if inside.len() == 2 {
            break;
        }
        before += 1;
    }
    // It renews every third of a lease, so the last time was no longer ago than that.
    let free = killed.elapsed();
    assert!(free > LEASE / 2, "its permit was free after {free:?}");
    assert!(free < LEASE * 4, "its permit was free after {free:?} only");
    assert!(before > 10, "the other permit was used meanwhile");
    for _ in 0..50 {
        assert!(next().len() <= 2);
    }
}
