//! Two servers and a witness: any one of the three dies, and writes go on.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;

use crate::experiments::{pick, print};
use crate::world::World;

/// Kills any of the three and starts it again once writes have gone on without it, for `time`.
///
/// # Errors
/// Writes did not go on, or it is not well again in time.
pub async fn run(world: &World, time: Duration) -> Result<()> {
    let started = Instant::now();
    let mut hosts = world.servers.names.clone();
    hosts.push("witness".to_owned());
    let (mut leader_died, mut other_died) = (Vec::new(), Vec::new());
    while started.elapsed() < time {
        let leader = world.healthy().await?;
        world.writing().await?;
        let victim = pick(&hosts);
        let killed = Instant::now();
        world.fault("kill", &victim);
        world.writing().await?;
        let down = rand::rng().random_range(1.0..4.0);
        tokio::time::sleep(Duration::from_secs_f64(down)).await;
        world.writing().await?;
        let (gap, _) = world.load.gaps(killed, Instant::now());
        match victim == leader {
            true => leader_died.push(gap),
            false => other_died.push(gap),
        }
        world.fault("start", &victim);
    }
    print("time without writes at the leader's death", &mut leader_died);
    print(
        "time without writes at the death of the other server or the witness",
        &mut other_died,
    );
    Ok(())
}
