//! What goes from member to member.

use bytes::Bytes;
use corten_store::Snapshot;

use super::{What, World};
use crate::member::place_of;
use crate::network::kind_of;
use crate::options::{Fault, MILLISECOND, SECOND};

impl World {
    pub(super) fn place_of(&self, id: u64) -> Option<usize> {
        let place = place_of(id);
        (place < self.members.len()).then_some(place)
    }

    pub(super) fn send(&mut self, from: usize, to: u64, message: Bytes) {
        let Some(to) = self.place_of(to) else { return };
        for delay in self
            .network
            .send(from, to, kind_of(&message))
            .into_iter()
            .flatten()
        {
            let message = message.clone();
            self.after(delay, What::Message { to, message });
        }
    }

    pub(super) fn send_state(&mut self, from: usize, to: u64, message: Bytes, state: Snapshot) {
        let boot = self.members[from].up.as_ref().map_or(0, |up| up.boot);
        let mut failed = true;
        if let Some(place) = self.place_of(to) {
            let slow = self.options.faults.has(Fault::Transfer) && !self.healing;
            let time = if slow {
                self.random.spread(MILLISECOND, 2 * SECOND)
            } else {
                MILLISECOND
            };
            let broken = slow && self.random.chance(0.3);
            let arrives = self.network.send(from, place, None)[0].filter(|_| !broken);
            if let Some(delay) = arrives {
                failed = false;
                let what = What::State {
                    from,
                    to: place,
                    message,
                    state,
                };
                self.after(delay + time, what);
            }
        }
        if failed {
            let delay = self.random.range(MILLISECOND, 200 * MILLISECOND);
            let told = What::Told {
                to: from,
                boot,
                peer: to,
                ok: false,
            };
            self.after(delay, told);
        }
    }

    pub(super) fn arrive(&mut self, to: usize, message: Bytes) {
        if let Some(up) = &self.members[to].up {
            // A full queue loses it, as the network might have.
            let _ = up.store.inbox().receive(message);
            self.wake(to);
        }
    }

    pub(super) fn arrive_state(&mut self, from: usize, to: usize, message: Bytes, state: Snapshot) {
        let peer = self.members[to].id;
        let ok = match &self.members[to].up {
            Some(up) => up.store.inbox().install(message, state).is_ok(),
            None => false,
        };
        self.wake(to);
        // The answer comes back on the same connection; if that breaks, the sender learns of a failure.
        let heard = self.network.send(to, from, None)[0];
        let told = What::Told {
            to: from,
            boot: self.members[from].up.as_ref().map_or(0, |up| up.boot),
            peer,
            ok: ok && heard.is_some(),
        };
        self.after(heard.unwrap_or(300 * MILLISECOND), told);
    }
}
