//! Disks that are lost or lie: a server that is replaced, with kubectl going on through a load balancer, and a byte
//! flipped in each file of a server.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use corten_tests::servers::{Balancer, NAMESPACE};
use rand::Rng;

use crate::experiments::print;
use crate::world::World;

/// Of a command.
const COMMAND_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Loses one server's disk after the other, `count` times, and replaces it as documented.
///
/// # Errors
/// A command of kubectl failed, or a server is not replaced in time.
pub async fn replace(world: &World, count: usize) -> Result<()> {
    let balancer = Balancer::start(&world.servers);
    let kubectl = balancer.kubectl(&world.cluster);
    let done = AtomicBool::new(false);
    let commands = || {
        let (mut turn, mut failed) = (0, Vec::new());
        while !done.load(Ordering::SeqCst) {
            turn += 1;
            for line in [
                format!("-n {NAMESPACE} create secret generic replaced-{turn} --from-literal=turn={turn}"),
                format!("-n {NAMESPACE} get secret replaced-{turn} -o name"),
            ] {
                let finished = kubectl.line(&line);
                if !finished.succeeded() {
                    println!("BROKEN: {finished}");
                    failed.push(finished.stderr.clone());
                }
            }
        }
        (2 * turn, failed)
    };
    let replacing = async {
        let mut took = Vec::new();
        for _ in 0..count {
            for name in world.servers.names.clone() {
                took.push(replace_one(world, &name).await?);
            }
        }
        print("a server whose disk was lost votes again", &mut took);
        anyhow::Ok(())
    };
    let (total, failed) = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let commands = scope.spawn(commands);
            let replaced = tokio::runtime::Handle::current().block_on(replacing);
            done.store(true, Ordering::SeqCst);
            let commands = commands.join().expect("kubectl's thread does not panic");
            replaced.map(|()| commands)
        })
    })?;
    println!("{total} commands of kubectl, {} failed", failed.len());
    ensure!(failed.is_empty(), "kubectl: {}", failed[0]);
    Ok(())
}

async fn replace_one(world: &World, name: &str) -> Result<std::time::Duration> {
    world.healthy().await?;
    world.fault("kill", name);
    std::fs::remove_dir_all(world.cluster.host_dir(name)).context("lose the disk")?;
    // The documented replacement: remove it, start it with nothing. The kubeconfig names the first server; another one is
    // asked, for that may be the one that is lost.
    let mut names = world.servers.names.iter();
    let other = names.find(|other| *other != name).context("another")?;
    let kubeconfig = world.cluster.host_dir(other).join("admin.kubeconfig");
    let words = [
        "member",
        "remove",
        name,
        "--kubeconfig",
        &kubeconfig.to_string_lossy(),
    ];
    world.cluster.corten(&words, COMMAND_LIMIT).ok();
    world.fault("start", name);
    let started = Instant::now();
    world.healthy().await?;
    Ok(started.elapsed())
}

/// Flips a byte in each file of the store of each server, `count` times, while the others serve.
///
/// # Errors
/// A server is not well again in time.
pub async fn flip(world: &World, count: usize) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..count {
        for name in &world.servers.names {
            let store = world.cluster.host_dir(name).join("store");
            // Names change as the log moves on: places in the list do not.
            for place in 0..files(&store).len() {
                world.healthy().await?;
                world.fault("kill", name);
                let Some(file) = files(&store).into_iter().nth(place) else {
                    world.fault("start", name);
                    break;
                };
                let offset = flip_one(&file)?;
                world.fault("start", name);
                let started = Instant::now();
                world.healthy().await?;
                took.push(started.elapsed());
                println!(
                    "{name}: byte {offset} of {} flipped: votes after {} ms",
                    file.strip_prefix(&store).unwrap_or(&file).display(),
                    started.elapsed().as_millis()
                );
            }
        }
    }
    print("a server with a flipped byte votes again", &mut took);
    world.writing().await
}

/// All files with something in them, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(about) if about.is_dir() => found.extend(files(&path)),
            Ok(about) if about.len() > 0 => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// Flips a bit of a byte; its offset. Files of the log are prepared with zeros: what is written is what counts.
fn flip_one(file: &Path) -> Result<usize> {
    let mut bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(bytes.len(), |last| last + 1);
    let (offset, bit) = (
        rand::rng().random_range(0..written),
        rand::rng().random_range(0..8),
    );
    bytes[offset] ^= 1 << bit;
    std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))?;
    Ok(offset)
}
