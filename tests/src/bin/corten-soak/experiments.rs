//! What is broken, how often, and what is measured.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::Rng;

use crate::shapes::{self, Shape};
use crate::world::World;
use crate::{Options, disks, moved, nodes, witness};

pub const NAMES: [&str; 14] = [
    "failover",
    "kill",
    "pause",
    "partition",
    "all",
    "rolling",
    "replace",
    "watches",
    "leave",
    "mixed",
    "dark",
    "node",
    "flip",
    "witness",
];
/// A gap as long as this is worth a line of its own.
const LONG: Duration = Duration::from_millis(400);
/// After a kill, the time in which the gap is looked for.
const WINDOW: Duration = Duration::from_secs(4);

/// # Errors
/// Something was seen that must not be, or the cluster did not heal.
pub async fn run(name: &str, options: Options) -> Result<()> {
    match name {
        "watches" => return moved::run(options.watches.unwrap_or(10_000)).await,
        "dark" => return nodes::dark(options.time(10.0)).await,
        "node" => return nodes::node(options.count(10)).await,
        _ => {}
    }
    let purpose = format!("soak-{name}");
    let world = match name {
        "witness" => World::with_witness(&purpose).await?,
        _ => World::new(&purpose).await?,
    };
    world.healthy().await?;
    world.writing().await?;
    match name {
        "failover" => failover(&world, options.count(100)).await?,
        "kill" => kill(&world, options.time(20.0)).await?,
        "pause" => pause(&world, options.count(20)).await?,
        "partition" => partition(&world, options.count(20)).await?,
        "all" => all(&world, options.count(50)).await?,
        "rolling" => rolling(&world, options.count(5), None).await?,
        "mixed" => {
            let other = options.other.clone().context("mixed needs --other BINARY")?;
            rolling(&world, options.count(5), Some(&other)).await?;
        }
        "leave" => leave(&world, options.count(3)).await?,
        "replace" => disks::replace(&world, options.count(3)).await?,
        "flip" => disks::flip(&world, options.count(1)).await?,
        "witness" => witness::run(&world, options.time(10.0)).await?,
        _ => bail!("there is no experiment {name}"),
    }
    world.finish().await
}

async fn failover(world: &World, count: usize) -> Result<()> {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for turn in 0..count {
        let leader = world.healthy().await?;
        world.writing().await?;
        let killed = Instant::now();
        world.fault("kill", &leader);
        tokio::time::sleep(WINDOW).await;
        let (write, read) = world.load.gaps(killed, killed + WINDOW);
        if write.max(read) >= LONG {
            let (write, read) = (write.as_millis(), read.as_millis());
            println!("{turn}: {leader} killed: {write} ms without writes, {read} ms without reads");
        }
        writes.push(write);
        reads.push(read);
        world.fault("start", &leader);
    }
    print("time without writes at a leader's death", &mut writes);
    print("time without reads at a leader's death", &mut reads);
    Ok(())
}

/// How often, and the quantiles of how long.
pub fn print(what: &str, times: &mut [Duration]) {
    if times.is_empty() {
        return println!("{what}: never");
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_millis();
    println!(
        "{what}: {} times, p50 {} ms, p90 {} ms, p99 {} ms, worst {} ms",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

async fn kill(world: &World, time: Duration) -> Result<()> {
    let started = Instant::now();
    let mut kills = 0;
    while started.elapsed() < time {
        let wait = rand::rng().random_range(1.0..5.0);
        tokio::time::sleep(Duration::from_secs_f64(wait)).await;
        let victim = pick(&world.servers.names);
        world.fault("kill", &victim);
        world.fault("start", &victim);
        kills += 1;
    }
    println!("{kills} kills");
    world.writing().await
}

/// One of them.
pub fn pick(names: &[String]) -> String {
    names[rand::rng().random_range(0..names.len())].clone()
}

async fn pause(world: &World, count: usize) -> Result<()> {
    for turn in 0..count {
        let leader = world.healthy().await?;
        // From 0.1 to 30 s, evenly by magnitude.
        let part = turn as f64 / (count.max(2) - 1) as f64;
        let seconds = 0.1 * 300f64.powf(part);
        let started = Instant::now();
        world.fault("pause", &leader);
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        world.fault("resume", &leader);
        world.writing().await?;
        let (write, read) = world.load.gaps(started, Instant::now());
        println!(
            "pause of {seconds:.1} s: {} ms without writes, {} ms without reads",
            write.as_millis(),
            read.as_millis()
        );
    }
    Ok(())
}

async fn partition(world: &World, count: usize) -> Result<()> {
    for _ in 0..count {
        let leader = world.healthy().await?;
        let victim = pick(&world.servers.names);
        let place = world.servers.names.iter().position(|name| *name == leader);
        // Now and then the host is plugged out: then clients do not reach it either.
        let shape = rand::rng()
            .random_bool(0.8)
            .then(|| Shape::draw(place.unwrap_or_default()));
        let seconds = rand::rng().random_range(1.0..10.0);
        let started = Instant::now();
        match shape {
            Some(shape) => shapes::cut(world, shape)?,
            None => world.fault("cut", &victim),
        }
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let (write, read) = world.load.gaps(started, Instant::now());
        match shape {
            Some(_) => shapes::heal(world)?,
            None => world.fault("heal", &victim),
        }
        let healing = Instant::now();
        world.healthy().await?;
        world.writing().await?;
        println!(
            "{} for {seconds:.1} s, {leader} leads: {} ms without writes, {} ms without reads; well again after {} ms",
            shape.map_or_else(|| format!("{victim} plugged out"), |shape| format!("{shape:?}")),
            write.as_millis(),
            read.as_millis(),
            healing.elapsed().as_millis()
        );
    }
    Ok(())
}

async fn all(world: &World, count: usize) -> Result<()> {
    let mut back = Vec::new();
    for _ in 0..count {
        world.writing().await?;
        for name in &world.servers.names {
            world.fault("kill", name);
        }
        let dead = Instant::now();
        for name in &world.servers.names {
            world.fault("start", name);
        }
        world.writing().await?;
        back.push(dead.elapsed());
        world.healthy().await?;
    }
    print("all killed: time from their start to the tenth write", &mut back);
    Ok(())
}

/// With another build, the servers run one and the other in turn, so that both lead and follow each other.
async fn rolling(world: &World, count: usize, other: Option<&Path>) -> Result<()> {
    let mut gaps = Vec::new();
    for turn in 0..count {
        for name in &world.servers.names {
            world.healthy().await?;
            let started = Instant::now();
            world.fault("stop", name);
            match other.filter(|_| turn % 2 == 0) {
                Some(other) => world.start_with(other, name)?,
                None => world.fault("start", name),
            }
            world.healthy().await?;
            gaps.push(world.load.gaps(started, Instant::now()).0);
        }
    }
    print("time without writes while a server is restarted", &mut gaps);
    Ok(())
}

/// Each server in turn leaves in order and joins anew.
async fn leave(world: &World, count: usize) -> Result<()> {
    let mut gaps = Vec::new();
    for _ in 0..count {
        for name in &world.servers.names {
            world.healthy().await?;
            let (started, dir) = (Instant::now(), world.cluster.host_dir(name));
            let words = ["member", "leave", "--data-dir", &dir.to_string_lossy()];
            world.cluster.corten(&words, Duration::from_secs(30)).ok();
            println!("{name} has left after {} ms", started.elapsed().as_millis());
            world.ended(name).await?;
            std::fs::remove_dir_all(&dir).context("empty its folder")?;
            world.fault("start", name);
            world.healthy().await?;
            gaps.push(world.load.gaps(started, Instant::now()).0);
        }
    }
    print("time without writes while a server leaves and joins", &mut gaps);
    Ok(())
}
