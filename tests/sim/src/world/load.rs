//! What clients and watchers ask, and when.

use std::task::{Context, Poll, Waker};

use super::{What, World};
use crate::options::{Fault, MILLISECOND, SECOND, Time};

/// A request that has no answer by then is given up.
const PATIENCE: Time = 4 * SECOND;

impl World {
    /// Looks whether clients have their answers.
    pub(super) fn poll(&mut self, place: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        for at in 0..self.clients.len() {
            let client = &mut self.clients[at];
            if client.member != place {
                continue;
            }
            let Some(flight) = &mut client.flight else {
                continue;
            };
            let Poll::Ready(answer) = flight.future.as_mut().poll(&mut cx) else {
                continue;
            };
            let index = client.answered(answer, &self.model, &mut self.shared);
            if let Some(index) = index {
                self.check_quorum(index);
            }
        }
    }

    fn any_up(&mut self) -> Option<usize> {
        let places: Vec<usize> = (0..self.members.len())
            .filter(|place| self.members[*place].up.is_some() && !self.members[*place].is_witness())
            .collect();
        self.load.pick(&places).copied()
    }

    pub(super) fn client(&mut self, at: usize) {
        let think = self
            .load
            .range(self.options.think / 2, self.options.think * 3 / 2);
        self.after(think, What::Client(at));
        if let Some(flight) = &self.clients[at].flight {
            if flight.deadline < self.now {
                self.clients[at].give_up(&mut self.shared);
            }
            return;
        }
        if self.quiet {
            return;
        }
        let here = self.clients[at].member;
        if self.members[here].up.is_none() || self.load.chance(0.1) {
            match self.any_up() {
                Some(place) => self.clients[at].member = place,
                None => return,
            }
        }
        let place = self.clients[at].member;
        let Some(up) = &self.members[place].up else { return };
        let compact = self.options.faults.has(Fault::Compaction) && !self.healing;
        // Some wait until the store itself gives up.
        let patience = if self.load.chance(0.3) {
            4 * PATIENCE
        } else {
            PATIENCE
        };
        let deadline = self.now + patience;
        self.clients[at].ask(
            up.store.clone(),
            &mut self.shared,
            &mut self.load,
            compact,
            deadline,
        );
        self.poll(place);
        self.wake(place);
    }

    pub(super) fn watcher(&mut self, at: usize) {
        let pause = self.load.spread(2 * MILLISECOND, 400 * MILLISECOND);
        self.after(pause, What::Watcher(at));
        let watcher = &mut self.watchers[at];
        if !self.healing && self.load.chance(0.03) {
            watcher.disconnect();
        }
        if watcher.is_off() {
            let Some(place) = self.any_up() else { return };
            let Some(up) = &self.members[place].up else { return };
            let store = up.store.clone();
            self.watchers[at].connect(place, store);
        }
        self.watchers[at].look(&self.model, &mut self.load);
        let place = self.watchers[at].member;
        self.wake(place);
    }
}
