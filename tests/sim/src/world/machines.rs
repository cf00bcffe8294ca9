//! The members' processes and their disks: starts, crashes, ticks, and what the core asks for.

use std::time::Duration;

use corten_store::Action;
use corten_store::image::Image;
use corten_store::log::Log;

use super::{What, World};
use crate::member::Blocked;
use crate::options::{Fault, MILLISECOND, SECOND, Time};

impl World {
    pub fn start(&mut self, place: usize) {
        let member = &mut self.members[place];
        if member.gone || member.up.is_some() {
            return;
        }
        if member.full_until > self.now {
            let delay = member.full_until - self.now;
            self.after(delay, What::Start { member: place });
            return;
        }
        member.start(&self.options, self.now);
        let tick = self.random.below(member.tick);
        let up = member.up.as_mut().expect("just started");
        let boot = up.boot;
        up.driven
            .start()
            .unwrap_or_else(|error| panic!("a start failed: {error}"));
        let (applied, whole) = (up.driven.applied().index, !member.damaged);
        assert!(
            !whole || applied >= member.promised,
            "S8: member {} knew the membership of entry {} for good, and starts at {applied}",
            member.id,
            member.promised
        );
        self.after(tick, What::Tick { member: place, boot });
        self.perform(place);
    }

    /// The process dies, or the machine: what was not synced may be lost.
    pub fn crash(&mut self, place: usize, restart: Time) {
        let member = &mut self.members[place];
        let Some(mut up) = member.up.take() else { return };
        self.report.crashes += 1;
        member.promised = up.store.standing().borrow().membership;
        let id = member.id;
        let kept = self.random.below(member.log.unsynced() as u64 + 1) as usize;
        member.log.crash(kept);
        // An image is written whole or not at all, one after the other.
        let mut written = true;
        if let Some(batch) = up.writing.take() {
            written = self.random.chance(0.5);
            if written {
                up.image.write(&batch).expect("memory");
            }
        }
        if let Some(Blocked::Replace(batch)) = up.blocked.take()
            && written
            && self.random.chance(0.5)
        {
            up.image.write(&batch).expect("memory");
        }
        for client in &mut self.clients {
            if client.member == place {
                client.give_up(&mut self.shared);
            }
        }
        for watcher in &mut self.watchers {
            if watcher.member == place {
                watcher.disconnect();
            }
        }
        self.admin.crashed(place);
        self.after(restart, What::Start { member: place });
        // A process that dies closes its connections; a machine does not.
        if self.random.chance(0.7) {
            for other in 0..self.members.len() {
                let delay = self.random.range(100, 20 * MILLISECOND);
                self.after(
                    delay,
                    What::Lost {
                        member: other,
                        peer: id,
                    },
                );
            }
        }
    }

    fn crash_soon_up(&mut self, place: usize) {
        let restart = self.random.spread(20 * MILLISECOND, 3 * SECOND);
        self.crash(place, restart);
    }

    /// Has the member's process look at its queue.
    pub fn wake(&mut self, place: usize) {
        let now = self.now;
        let member = &mut self.members[place];
        let delay = member.paused_until.saturating_sub(now);
        let Some(up) = &mut member.up else { return };
        if up.serving || up.blocked.is_some() {
            return;
        }
        up.serving = true;
        let (boot, work) = (up.boot, self.random.range(20, 200));
        self.after(delay + work, What::Serve { member: place, boot });
    }

    pub(super) fn tick(&mut self, place: usize, boot: u64) {
        let (tick, paused) = (
            self.members[place].tick,
            self.members[place].paused_until.saturating_sub(self.now),
        );
        if self.up(place, boot).is_none() {
            return;
        }
        // Connections break for other reasons too.
        if self.options.faults.has(Fault::Loss) && !self.healing && self.random.chance(0.005) {
            let peer = self.random.below(self.members.len() as u64) as usize;
            let peer = self.members[peer].id;
            self.after(0, What::Lost { member: place, peer });
        }
        let Some(up) = self.up(place, boot) else { return };
        up.ticked = true;
        self.after(tick + paused, What::Tick { member: place, boot });
        self.wake(place);
    }

    pub(super) fn serve(&mut self, place: usize, boot: u64) {
        let (now, paused) = (self.now, self.members[place].paused_until > self.now);
        let Some(up) = self.up(place, boot) else { return };
        up.serving = false;
        if paused {
            self.wake(place);
            return;
        }
        if up.blocked.is_some() {
            return;
        }
        let ticked = std::mem::take(&mut up.ticked);
        up.nudged = false;
        let since = Duration::from_micros(now - up.since);
        let more = up
            .driven
            .serve(since, ticked)
            .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
        self.perform(place);
        if more {
            self.wake(place);
        }
    }

    /// Does what the core asks for, until it must wait for its disk.
    fn perform(&mut self, place: usize) {
        let inside = self.options.faults.has(Fault::CrashInside) && !self.healing;
        loop {
            let Some(up) = &mut self.members[place].up else {
                return;
            };
            if up.blocked.is_some() {
                break;
            }
            let action = up.driven.next_action();
            let action = action.unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            let Some(action) = action else {
                break;
            };
            if inside && self.random.chance(0.0004) {
                self.crash_soon_up(place);
                return;
            }
            self.act(place, action);
        }
        self.audit(place);
        self.poll(place);
        self.admin.poll(place);
        let Some(up) = &self.members[place].up else { return };
        if up.blocked.is_none() && (up.ticked || up.nudged || up.driven.waiting()) {
            self.wake(place);
        }
    }

    fn fsync_time(&mut self, place: usize) -> Time {
        let usual = self.random.range(self.options.fsync / 2, self.options.fsync * 2);
        if self.members[place].slow_until > self.now {
            usual + self.random.spread(50 * MILLISECOND, 4 * SECOND)
        } else {
            usual
        }
    }

    fn act(&mut self, place: usize, action: Action) {
        let time = self.fsync_time(place);
        let member = &mut self.members[place];
        let full = member.full_until > self.now;
        let Some(up) = &mut member.up else { return };
        let boot = up.boot;
        match action {
            Action::Append(batch) => {
                if full {
                    self.crash_soon_up(place);
                    return;
                }
                let number = batch.number;
                up.log
                    .write(batch)
                    .unwrap_or_else(|error| panic!("the log refuses: {error:?}"));
                up.blocked = Some(Blocked::Append(number));
                self.after(time, What::Synced { member: place, boot });
            }
            Action::ReplaceImage(batch) => {
                // What lies before is in no log of this member's.
                up.audited = batch.meta.base.index;
                up.blocked = Some(Blocked::Replace(Box::new(batch)));
                self.report.installed += 1;
                self.after(time * 2, What::Synced { member: place, boot });
            }
            Action::WriteImage(batch) => {
                up.writing = Some(batch);
                self.after(time * 3, What::ImageDone { member: place, boot });
            }
            Action::Cut(base) => up.log.cut(base).expect("memory"),
            Action::NotePeers(peers) => up.log.note_peers(peers).expect("memory"),
            Action::NoteRepaired => {
                up.log.note_loss(None).expect("memory");
                member.damaged = false;
            }
            Action::Fetch(fetch) => {
                let entries = up.log.entries(fetch.low, fetch.high, fetch.max_bytes);
                up.driven
                    .fetched(fetch, entries.unwrap_or_default())
                    .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            }
            Action::Send { to, message } => self.send(place, to, message),
            Action::SendSnapshot { to, message, state } => self.send_state(place, to, message, state),
            Action::SnapshotLost { to } => {
                let told = What::Told {
                    to: place,
                    boot,
                    peer: to,
                    ok: false,
                };
                self.after(0, told);
            }
            other @ (Action::RewriteImage(_) | Action::Scrub { .. }) => panic!("nobody scrubs: {other:?}"),
            other @ Action::Halt { .. } => panic!("S3: a member finds its own state wrong: {other:?}"),
        }
    }

    pub(super) fn synced(&mut self, place: usize, boot: u64) {
        if self.up(place, boot).is_none() {
            return;
        }
        let failed = !self.healing && self.options.faults.has(Fault::FsyncError) && self.random.chance(0.002);
        if failed {
            self.crash_soon_up(place);
            return;
        }
        let Some(up) = self.up(place, boot) else { return };
        match up.blocked.take() {
            Some(Blocked::Append(number)) => {
                let durable = up.log.sync(number);
                up.driven
                    .persisted(durable)
                    .unwrap_or_else(|error| panic!("a member stopped: {error:?}"));
            }
            Some(Blocked::Replace(batch)) => {
                // The image's thread does one thing after the other.
                if let Some(before) = up.writing.take() {
                    up.image.write(&before).expect("memory");
                    up.driven.image_written(Ok(up.image.disk_bytes()));
                    up.nudged = true;
                }
                up.image.write(&batch).expect("memory");
            }
            None => {}
        }
        self.perform(place);
    }

    pub(super) fn image_done(&mut self, place: usize, boot: u64) {
        let Some(up) = self.up(place, boot) else { return };
        if let Some(batch) = up.writing.take() {
            up.image.write(&batch).expect("memory");
            up.driven.image_written(Ok(up.image.disk_bytes()));
            up.nudged = true;
            self.wake(place);
        }
    }
}
