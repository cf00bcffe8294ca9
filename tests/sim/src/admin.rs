//! The operator: founds the cluster, adds, replaces and removes members, one change after the other, through any member.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use corten_store::{Change, StoreError, is_witness};
use raft::eraftpb::ConfState;

use crate::member::{id_at, place_of};
use crate::options::{MILLISECOND, Options, SECOND, Time};
use crate::random::Random;
use crate::world::World;

/// Members at once, at most.
const MAX_MEMBERS: usize = 5;
const PATIENCE: Time = 5 * SECOND;

struct Flight {
    place: usize,
    deadline: Time,
    future: Pin<Box<dyn Future<Output = Result<(), StoreError>>>>,
}

pub struct Admin {
    random: Random,
    /// Who should have a vote.
    target: Vec<u64>,
    flight: Option<Flight>,
    pub done: u64,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wants {:?}, waits {}", self.target, self.flight.is_some())
    }
}

impl Admin {
    pub fn new(options: &Options) -> Self {
        Admin {
            random: Random::new(options.seed, 5),
            target: (0..options.members)
                .map(|place| id_at(place, options.witness && place + 1 == options.members))
                .collect(),
            flight: None,
            done: 0,
        }
    }

    /// The membership as the newest member has it.
    fn membership(world: &World) -> ConfState {
        let ups = world.members.iter().filter_map(|member| member.up.as_ref());
        let newest = ups.max_by_key(|up| up.driven.applied().index);
        newest
            .map(|up| up.driven.applied().conf_state.clone())
            .unwrap_or_default()
    }

    /// Whether the membership is what it should be, and all who take part know it for good.
    pub fn settled(&self, world: &World) -> bool {
        let mut target = self.target.clone();
        target.sort_unstable();
        target.iter().all(|id| {
            let Some(member) = world.members.get(place_of(*id)) else {
                return false;
            };
            member.up.as_ref().is_some_and(|up| {
                let conf = &up.driven.applied().conf_state;
                let mut voters = conf.voters.clone();
                voters.sort_unstable();
                let plain = conf.learners.is_empty() && conf.voters_outgoing.is_empty();
                voters == target && plain && up.blocked.is_none()
            })
        })
    }

    pub fn voters(&self) -> usize {
        self.target.len()
    }

    /// Looks, does one thing, and says when it will look again.
    pub fn step(world: &mut World) -> Time {
        let delay = world.admin.random.range(20, 150) * MILLISECOND;
        if let Some(flight) = &world.admin.flight {
            if flight.deadline < world.now {
                world.admin.flight = None;
            }
            return delay;
        }
        let wanted = world.admin.target.clone();
        while wanted.iter().any(|id| place_of(*id) >= world.members.len()) {
            let witness = wanted.contains(&id_at(world.members.len(), true));
            world.add_member(false, witness);
        }
        let conf = Admin::membership(world);
        Admin::dismiss(world);
        let changes = Admin::next_changes(world, &conf, &wanted);
        if changes.is_empty() {
            return delay;
        }
        let places: Vec<usize> = (0..world.members.len())
            .filter(|place| world.members[*place].up.is_some() && !world.members[*place].is_witness())
            .collect();
        let Some(place) = world.admin.random.pick(&places).copied() else {
            return delay;
        };
        let Some(up) = &world.members[place].up else {
            return delay;
        };
        let store = up.store.clone();
        let future = async move { store.change_members(&changes).await };
        world.admin.flight = Some(Flight {
            place,
            deadline: world.now + PATIENCE,
            future: Box::pin(future),
        });
        world.admin.poll(place);
        world.wake(place);
        delay
    }

    fn next_changes(world: &mut World, conf: &ConfState, wanted: &[u64]) -> Vec<Change> {
        if conf.voters.is_empty() || !conf.voters_outgoing.is_empty() {
            return Vec::new();
        }
        let newest = world.model.index();
        let surplus: Vec<u64> = conf
            .voters
            .iter()
            .chain(&conf.learners)
            .filter(|id| !wanted.contains(id))
            .copied()
            .collect();
        if let Some(id) = wanted.iter().find(|id| !conf.voters.contains(id)) {
            let member = &world.members[place_of(*id)];
            if !conf.learners.contains(id) {
                return vec![Change::AddLearner(*id)];
            }
            let near = member
                .up
                .as_ref()
                .is_some_and(|up| up.driven.applied().index + 50 >= newest);
            if !near {
                return Vec::new();
            }
            let mut changes = vec![Change::AddVoter(*id)];
            if let Some(leaves) = surplus.first()
                && world.admin.random.chance(0.5)
            {
                changes.push(Change::Remove(*leaves));
            }
            return changes;
        }
        surplus
            .first()
            .map(|id| vec![Change::Remove(*id)])
            .unwrap_or_default()
    }

    /// Members that were removed are stopped for good, a while after all who stay know: until then they count on its vote.
    fn dismiss(world: &mut World) {
        if !world.admin.settled(world) {
            return;
        }
        for place in 0..world.members.len() {
            let member = &world.members[place];
            if member.gone || world.admin.target.contains(&member.id) {
                continue;
            }
            if world.healing || world.admin.random.chance(0.1) {
                world.members[place].gone = true;
                world.crash(place, 0);
            }
        }
    }

    pub fn poll(&mut self, place: usize) {
        let Some(flight) = &mut self.flight else { return };
        if flight.place != place {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = flight.future.as_mut().poll(&mut cx) {
            self.done += u64::from(answer.is_ok());
            self.flight = None;
        }
    }

    pub fn crashed(&mut self, place: usize) {
        if self.flight.as_ref().is_some_and(|flight| flight.place == place) {
            self.flight = None;
        }
    }

    /// Somebody wants another membership, or another leader.
    pub fn change(world: &mut World) {
        if world.admin.random.chance(0.3) {
            let place = world.admin.random.below(world.members.len() as u64) as usize;
            let id = world.members[place].id;
            for member in &world.members {
                if let Some(up) = &member.up {
                    let _ = up.store.transfer_leadership(id);
                }
            }
            for place in 0..world.members.len() {
                world.wake(place);
            }
            return;
        }
        // Of two voters none may be under repair, which does not vote.
        if !world.admin.settled(world) || world.members.iter().any(|member| member.damaged && !member.gone) {
            return;
        }
        let next = world.members.len() as u64 + 1;
        let target = &mut world.admin.target;
        let random = &mut world.admin.random;
        let out = random.below(target.len() as u64) as usize;
        match random.below(3) {
            0 if target.len() < MAX_MEMBERS => target.push(next),
            // A witness alone is no cluster.
            1 if target.iter().filter(|id| !is_witness(**id)).count() > 1 => drop(target.remove(out)),
            1 => {}
            _ => {
                target.remove(out);
                target.push(next);
            }
        }
    }

    /// A disk is gone, and its member with it: another one takes its place.
    pub fn lose_disk(world: &mut World) {
        let damaged = world.members.iter().any(|member| member.damaged && !member.gone);
        if world.admin.target.len() < 3 || damaged || !world.admin.settled(world) || !world.is_even() {
            return;
        }
        let next = world.members.len() as u64 + 1;
        let out = world.admin.random.below(world.admin.target.len() as u64) as usize;
        let id = world.admin.target.remove(out);
        world.admin.target.push(next);
        let place = place_of(id);
        world.members[place].gone = true;
        world.members[place].lost_disk = true;
        world.crash(place, 0);
    }
}
