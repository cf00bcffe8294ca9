//! Partitions of several shapes between servers: packets dropped in a host's own packet filter, so that each direction
//! and each pair can be cut alone, while clients still reach every server.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rand::Rng;

use crate::world::World;

/// What a partition does, by the places of the servers.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Nobody of the others hears it, nor it them.
    Alone(usize),
    /// It is heard, and hears nothing of the others.
    Deaf(usize),
    /// It hears, and is not heard.
    Mute(usize),
    /// Two do not reach each other, and both reach the third.
    Bridge(usize),
    /// One direction between one pair.
    OneWay(usize, usize),
}

impl Shape {
    /// One of the shapes over three servers. Two of five times it is about `leader`.
    pub fn draw(leader: usize) -> Shape {
        let mut random = rand::rng();
        let one = match random.random_bool(0.4) {
            true => leader,
            false => random.random_range(0..3),
        };
        match random.random_range(0..5) {
            0 => Shape::Alone(one),
            1 => Shape::Deaf(one),
            2 => Shape::Mute(one),
            3 => Shape::Bridge(one),
            _ => Shape::OneWay(one, (one + 1 + random.random_range(0..2)) % 3),
        }
    }

    /// The `(from, to)` whose packets are lost.
    fn lost(self) -> Vec<(usize, usize)> {
        let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to)));
        pairs
            .filter(|(from, to)| {
                from != to
                    && match self {
                        Shape::Alone(one) => *from == one || *to == one,
                        Shape::Deaf(one) => *to == one,
                        Shape::Mute(one) => *from == one,
                        Shape::Bridge(one) => *from != one && *to != one,
                        Shape::OneWay(one, other) => (*from, *to) == (one, other),
                    }
            })
            .collect()
    }
}

/// Loses packets until it is healed.
pub fn cut(world: &World, shape: Shape) -> Result<()> {
    for (from, to) in shape.lost() {
        let (source, host) = (&world.servers.addresses[from], &world.servers.names[to]);
        filter(world, host, &["-A", "INPUT", "-s", source, "-j", "DROP"])?;
    }
    Ok(())
}

/// Every packet arrives again.
pub fn heal(world: &World) -> Result<()> {
    for host in &world.servers.names {
        filter(world, host, &["-F", "INPUT"])?;
    }
    Ok(())
}

fn filter(world: &World, host: &str, words: &[&str]) -> Result<()> {
    let namespace = format!("corten-{}-{host}", world.cluster.name);
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &namespace, "iptables", "-w"])
        .args(words);
    let output = command.output().context("run iptables")?;
    ensure!(
        output.status.success(),
        "iptables {words:?} on {host}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(Shape::Alone(0).lost(), [(0, 1), (0, 2), (1, 0), (2, 0)]);
        assert_eq!(Shape::Deaf(1).lost(), [(0, 1), (2, 1)]);
        assert_eq!(Shape::Mute(1).lost(), [(1, 0), (1, 2)]);
        assert_eq!(Shape::Bridge(2).lost(), [(0, 1), (1, 0)]);
        assert_eq!(Shape::OneWay(0, 2).lost(), [(0, 2)]);
    }
}
