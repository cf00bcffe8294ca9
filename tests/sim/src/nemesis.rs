//! What goes wrong, and when. Each class of faults has a stream of random numbers of its own.

use crate::admin::Admin;
use crate::network::Cut;
use crate::options::{FAULTS, Fault, MILLISECOND, Options, SECOND, Time};
use crate::random::Random;
use crate::world::{What, World};

/// Classes that strike at moments; the others are there all the time.
const STRIKES: [Fault; 9] = [
    Fault::Partition,
    Fault::Crash,
    Fault::PowerCut,
    Fault::Pause,
    Fault::SlowDisk,
    Fault::DiskFull,
    Fault::Members,
    Fault::DiskLoss,
    Fault::Damage,
];

pub struct Nemesis {
    streams: Vec<Random>,
}

impl Nemesis {
    pub fn new(options: &Options) -> Self {
        let streams = FAULTS
            .iter()
            .map(|fault| Random::new(options.seed, 100 + *fault as u64));
        Nemesis {
            streams: streams.collect(),
        }
    }

    fn random(&mut self, fault: Fault) -> &mut Random {
        &mut self.streams[fault as usize]
    }

    /// The first strike of each class.
    pub fn begin(&mut self, options: &Options) -> Vec<(Fault, Time)> {
        let mut first = Vec::new();
        for fault in STRIKES {
            if options.faults.has(fault) {
                first.push((fault, self.random(fault).below(options.every * 2)));
            }
        }
        first
    }

    /// A fault of this class happens now, and the next one is due.
    pub fn strike(world: &mut World, fault: Fault) {
        if world.healing {
            return;
        }
        let every = world.options.every;
        let random = world.nemesis.random(fault);
        let next = random.spread(every / 4, every * 3);
        let one = random.below(world.members.len() as u64) as usize;
        let long = random.spread(100 * MILLISECOND, 5 * SECOND);
        let short = random.spread(20 * MILLISECOND, 3 * SECOND);
        match fault {
            Fault::Partition => {
                let cut = Cut::draw(world.nemesis.random(fault), world.members.len().min(8));
                world.network.cuts.push(cut);
                world.report.partitions += 1;
                world.after(long, What::Heal);
            }
            Fault::Crash => world.crash(one, short),
            Fault::PowerCut => {
                for place in 0..world.members.len() {
                    let restart = world.nemesis.random(fault).spread(20 * MILLISECOND, SECOND);
                    world.crash(place, restart);
                }
            }
            Fault::Pause => world.members[one].paused_until = world.now + long,
            Fault::SlowDisk => world.members[one].slow_until = world.now + long,
            Fault::DiskFull => world.members[one].full_until = world.now + short,
            Fault::Members => Admin::change(world),
            Fault::DiskLoss => Admin::lose_disk(world),
            Fault::Damage => Nemesis::damage(world, one, short),
            _ => {}
        }
        world.after(next, What::Fault(fault));
    }

    /// Nobody writes any more, and once more a disk loses something: the member has to get it back all the same.
    pub fn disturb_calm(world: &mut World) {
        if world.options.faults.has(Fault::Damage) {
            let random = world.nemesis.random(Fault::Damage);
            let one = random.below(world.members.len() as u64) as usize;
            let restart = random.spread(20 * MILLISECOND, SECOND);
            Nemesis::damage(world, one, restart);
        }
    }

    /// A disk loses a part of the log. One at a time, as the loss of a whole disk: what a majority has must stay.
    fn damage(world: &mut World, place: usize, restart: Time) {
        let enough = world.admin.voters() >= 3 && world.admin.settled(world);
        let member = &world.members[place];
        let whole = !world.members.iter().any(|member| member.damaged && !member.gone);
        if !enough || !whole || member.up.is_none() || !world.is_even() {
            return;
        }
        world.crash(place, restart);
        let log = world.members[place].log.clone();
        let (first, last) = (log.base_index(), log.last_index());
        let kept = world.nemesis.random(Fault::Damage).range(first, last);
        log.lose_after(kept);
        world.members[place].damaged = true;
    }
}
