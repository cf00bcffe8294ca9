//! The safety of what members have applied, hold and lead, and whether all has come together in the end.

use corten_store::log::Log;

use super::World;
use crate::blind;
use crate::model;

impl World {
    /// Compares what a member has applied, and who leads, with what is known.
    pub(super) fn audit(&mut self, place: usize) {
        let member = &mut self.members[place];
        let id = member.id;
        let Some(up) = &mut member.up else { return };
        let applied = up.driven.applied().index;
        if applied != up.audited {
            let base = up.log.state().base.index;
            let low = up.audited.max(base) + 1;
            if low <= applied {
                let entries = match up.log.entries(low, applied + 1, u64::MAX) {
                    Ok(entries) => entries,
                    // A peer's state is about to replace the log, behind what the disk is doing now.
                    Err(_) if up.blocked.is_some() => return,
                    Err(error) => panic!("member {id} applied what it does not hold: {error:?}"),
                };
                for entry in &entries {
                    self.model.commit(id, up.driven.role().term, entry);
                }
            }
            up.audited = applied;
        }
        if applied != up.checked && !corten_store::is_witness(id) {
            up.checked = applied;
            let snapshot = up.store.snapshot();
            assert_eq!(
                snapshot.revision().0,
                self.model.revision_at(applied),
                "S4: member {id} is at another revision after entry {applied}"
            );
            self.model.check_state(&snapshot, true, "a member's state");
        }
        let conf = &up.driven.applied().conf_state;
        if self
            .memberships
            .last()
            .is_none_or(|(seen, last)| *seen < applied && last != conf)
        {
            self.memberships.push((applied, conf.clone()));
        }
        let role = up.driven.role();
        if role.leads && up.led != role.term {
            up.led = role.term;
            let log = up.log.state();
            self.check_leader(id, role.term, log.last_index, place);
        }
        self.note([id << 32 | applied, role.term, self.now]);
    }

    fn check_leader(&mut self, id: u64, term: u64, last: u64, place: usize) {
        match self.leaders.binary_search_by_key(&term, |leader| leader.0) {
            Ok(at) => assert_eq!(self.leaders[at].1, id, "S1: two leaders in term {term}"),
            Err(at) => self.leaders.insert(at, (term, id)),
        }
        let known = self.model.committed_before(term);
        assert!(
            last >= known,
            "S2: leader {id} of term {term} ends at {last}, but {known} is committed"
        );
        let up = self.members[place].up.as_mut().expect("it leads");
        let expected = self.model.term_at(known);
        if let (Ok(found), Some(expected)) = (up.log.entries(known, known + 1, u64::MAX), expected) {
            assert_eq!(
                found[0].term, expected,
                "S2: leader {id} holds another entry {known}"
            );
        }
    }

    /// What was acknowledged survives the loss of any minority.
    pub(super) fn check_quorum(&mut self, index: u64) {
        let Some(term) = self.model.term_at(index) else {
            return;
        };
        // A membership takes effect when it is applied; entries close behind it may be of the one before.
        let first = self
            .memberships
            .partition_point(|(seen, _)| seen + 100 < index)
            .saturating_sub(1);
        let safe = self.memberships[first..].iter().any(|(_, conf)| {
            let majority = |voters: &[u64]| {
                let held = voters.iter().filter(|id| self.holds(**id, index, term)).count();
                voters.is_empty() || held > voters.len() / 2
            };
            majority(&conf.voters) && majority(&conf.voters_outgoing)
        });
        assert!(
            safe,
            "S5: entry {index} was acknowledged, and is durable on no majority"
        );
    }

    /// Whether a member has an entry on its disk, or had it on the disk that is lost.
    fn holds(&self, id: u64, index: u64, term: u64) -> bool {
        self.place_of(id).is_some_and(|place| {
            let member = &self.members[place];
            member.lost_disk || member.damaged || member.holds(index, term)
        })
    }

    /// Whether every server that belongs to the cluster has all that is committed on its disk. A witness can bring up only who
    /// lacks little: to lose another disk meanwhile is more than two servers and a witness survive.
    pub fn is_even(&self) -> bool {
        let newest = self.model.index();
        let mut servers = self.members.iter().filter(|member| !member.gone);
        !self.options.witness
            || servers.all(|member| {
                member.up.is_some()
                    && self
                        .model
                        .term_at(newest)
                        .is_none_or(|term| member.holds(newest, term))
            })
    }

    pub(super) fn is_together(&self) -> bool {
        let newest = self.model.index();
        let members = self.members.iter().filter(|member| !member.gone);
        let mut together = self.admin.settled(self);
        for member in members {
            together &= !member.damaged;
            together &= member
                .up
                .as_ref()
                .is_some_and(|up| up.driven.applied().index + 20 >= newest);
        }
        together
            && self
                .watchers
                .iter()
                .all(|watcher| watcher.is_current(&self.model))
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!(
            "committed {} by index, {} acknowledged, admin {:?};",
            self.model.index(),
            self.shared.acknowledged,
            self.admin
        );
        for member in &self.members {
            text += &match &member.up {
                Some(up) => format!(
                    " [{} {:?} applied {} of {:?}]",
                    member.id,
                    up.driven.role(),
                    up.driven.applied().index,
                    up.driven.applied().conf_state
                ),
                None => format!(" [{} {}]", member.id, if member.gone { "gone" } else { "down" }),
            };
        }
        for (n, watcher) in self.watchers.iter().enumerate() {
            if !watcher.is_current(&self.model) {
                text += &format!(" watcher {n} is behind");
            }
        }
        text
    }

    pub(super) fn check_end(&mut self) {
        for client in &mut self.clients {
            client.give_up(&mut self.shared);
        }
        for data in &self.shared.refused {
            assert!(
                self.model.settled(data).is_none(),
                "§6.3: a transaction that was refused has happened later"
            );
        }
        for watcher in &self.watchers {
            watcher.check_cache(&self.model);
        }
        for (register, operations) in self.shared.registers.iter().enumerate() {
            assert!(
                blind::check(operations) != blind::Verdict::Not,
                "§6.3: the history of register {register} is not linearizable: {operations:?}"
            );
        }
        self.report.simulated = self.now;
        self.report.acknowledged = self.shared.acknowledged;
        self.report.unknown = self.shared.unknown;
        self.report.reads = self.shared.reads;
        self.report.seen = self.watchers.iter().map(|watcher| watcher.events).sum();
        self.report.lists = self.watchers.iter().map(|watcher| watcher.lists).sum();
        self.report.resumes = self.watchers.iter().map(|watcher| watcher.resumes).sum();
        self.report.compactions = self.model.compactions;
        self.report.terms = self.leaders.len() as u64;
        self.report.changes = self.admin.done;
        self.note([self.model.index(), self.model.revision(), model::hash(&[])]);
    }
}
