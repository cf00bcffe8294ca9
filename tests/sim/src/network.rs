//! Who can talk to whom, and how long it takes.

use crate::options::{Fault, MILLISECOND, Options, Time};
use crate::random::Random;

/// What a partition does to the links, by the places of its members.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Nobody reaches one member, nor it them.
    Isolate(usize),
    /// Two halves.
    Split(u32),
    /// Two halves that both reach one member.
    Bridge(u32, usize),
    /// One member is heard, and hears nothing.
    Deaf(usize),
    /// One member hears, and is not heard.
    Mute(usize),
    /// One kind of Raft's messages is lost everywhere.
    Kind(u8),
}

impl Cut {
    pub fn draw(random: &mut Random, members: usize) -> Cut {
        let one = random.below(members as u64) as usize;
        let half = random.below(1 << members) as u32;
        match random.below(6) {
            0 => Cut::Isolate(one),
            1 => Cut::Split(half),
            2 => Cut::Bridge(half, one),
            3 => Cut::Deaf(one),
            4 => Cut::Mute(one),
            _ => Cut::Kind(random.below(20) as u8),
        }
    }

    fn stops(&self, from: usize, to: usize, kind: Option<u8>) -> bool {
        let apart = |half: u32| (half >> from) & 1 != (half >> to) & 1;
        match *self {
            Cut::Isolate(one) => from == one || to == one,
            Cut::Split(half) => apart(half),
            Cut::Bridge(half, one) => from != one && to != one && apart(half),
            Cut::Deaf(one) => to == one,
            Cut::Mute(one) => from == one,
            Cut::Kind(lost) => kind == Some(lost),
        }
    }
}

/// The state of the links.
#[derive(Debug)]
pub struct Network {
    pub cuts: Vec<Cut>,
    loss: f64,
    repeat: f64,
    max_delay: Time,
    long: bool,
    random: Random,
}

impl Network {
    pub fn new(options: &Options) -> Self {
        Network {
            cuts: Vec::new(),
            loss: options.loss,
            repeat: options.repeat,
            max_delay: options.max_delay,
            long: options.faults.has(Fault::Delay),
            random: Random::new(options.seed, 2),
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        (self.loss, self.repeat, self.long) = (0.0, 0.0, false);
        self.max_delay = 2 * MILLISECOND;
    }

    /// When each copy of a message arrives, from now; none if it is lost. `kind` is Raft's number of the message.
    pub fn send(&mut self, from: usize, to: usize, kind: Option<u8>) -> [Option<Time>; 2] {
        if self.cuts.iter().any(|cut| cut.stops(from, to, kind)) {
            return [None, None];
        }
        let lost = self.random.chance(self.loss);
        let twice = self.random.chance(self.repeat);
        let first = self.delay();
        [(!lost).then_some(first), twice.then(|| self.delay())]
    }

    fn delay(&mut self) -> Time {
        let usual = self.random.range(100, 1000);
        if self.long && self.random.chance(0.3) {
            usual + self.random.below(self.max_delay)
        } else {
            usual
        }
    }
}

/// Raft's number of an encoded message: its first field.
pub fn kind_of(message: &[u8]) -> Option<u8> {
    (message.first() == Some(&8))
        .then(|| message.get(1).copied())
        .flatten()
}
