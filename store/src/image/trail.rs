//! When the image moves on, and to what: it trails the state by one interval, so that the log after it still holds the
//! newest watch history when the store starts again. A plain structure.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Meta, digest, size};
use crate::log::Base;
use crate::model::{Entry, Event};
use crate::planted::{Bug, planted};
use crate::tree::Snapshot;

/// The image moves after so many applied log entries, or so many bytes of them.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Default 20,000.
    pub entries: u64,
    /// Default 16 MiB.
    pub bytes: u64,
}

/// Bytes of the log that may wait for the image, in intervals.
const MAX_INTERVALS: u64 = 8;

impl Default for Interval {
    fn default() -> Self {
        Interval {
            entries: 20_000,
            bytes: 16 << 20,
        }
    }
}

/// A state the image can move to, and the keys that change on the way.
#[derive(Debug)]
struct Cut {
    state: Snapshot,
    base: Base,
    totals: Totals,
    changed: BTreeMap<Bytes, Changed>,
}

#[derive(Debug)]
struct Changed {
    /// The state before the way had the key.
    was: bool,
    now: Option<Arc<Entry>>,
}

/// What a state adds up to; see [`Meta`].
#[derive(Clone, Copy, Debug)]
struct Totals {
    keys: u64,
    digest: u64,
    bytes: u64,
}

impl Totals {
    fn of(image: &Meta) -> Self {
        Totals {
            keys: image.keys,
            digest: image.digest,
            bytes: image.bytes,
        }
    }

    fn note(&mut self, event: &Event) {
        if let Some(prev) = event.prev() {
            self.keys -= 1;
            self.digest = self.digest.wrapping_sub(digest(prev));
            self.bytes -= size(prev);
        }
        if let Some(entry) = event.entry() {
            self.keys += 1;
            self.digest = self.digest.wrapping_add(digest(entry));
            self.bytes += size(entry);
        }
    }
}

#[derive(Debug)]
pub struct Trail {
    /// The image on disk or on its way there.
    image: Meta,
    /// Where the image goes next.
    next: Option<Cut>,
    /// What changed since `next`, or since the image.
    changed: BTreeMap<Bytes, Changed>,
    /// Of the state as of all that was noted.
    totals: Totals,
    entries: u64,
    bytes: u64,
    /// Bytes of log entries before these that the image on disk does not hold.
    behind: u64,
    /// The part of them that is on its way to the image.
    moving: u64,
    writing: bool,
    hurried: bool,
    interval: Interval,
}

impl Trail {
    pub fn new(image: Meta, interval: Interval) -> Self {
        Trail {
            totals: Totals::of(&image),
            image,
            next: None,
            changed: BTreeMap::new(),
            entries: 0,
            bytes: 0,
            behind: 0,
            moving: 0,
            writing: false,
            hurried: false,
            interval,
        }
    }

    /// Notes one applied batch of log entries.
    pub fn note(&mut self, events: &[Arc<Event>], entries: u64, bytes: u64) {
        for event in events {
            self.totals.note(event);
            let changed = self.changed.entry(event.key.clone());
            let was = event.prev().is_some();
            changed.or_insert(Changed { was, now: None }).now = event.entry().cloned();
        }
        self.entries += entries;
        self.bytes += bytes;
    }

    /// How many entries may be noted at once, so that no interval grows much larger than it should.
    pub fn room(&self) -> usize {
        usize::try_from(self.interval.entries.saturating_sub(self.entries))
            .unwrap_or(usize::MAX)
            .max(1)
    }

    /// Whether an interval is over and no batch is on its way. Then call [`Trail::advance`].
    pub fn due(&self) -> bool {
        let over = self.entries >= self.interval.entries || self.bytes >= self.interval.bytes;
        let goal = self.next.as_ref().map_or(0, |next| next.base.index);
        let left = self.entries > 0 || goal > self.image.base.index;
        // Once writes are refused for its sake, none comes to end the interval.
        let hurried = self.hurried || self.too_far_behind().is_some();
        !self.writing && (over || hurried && left)
    }

    /// Where the image on disk, or on its way there, stands.
    pub fn image_index(&self) -> u64 {
        self.image.base.index
    }

    /// Whether a batch is on its way.
    pub fn writing(&self) -> bool {
        self.writing
    }

    /// The image as of now, whole. No batch may be on its way.
    pub fn rewrite(&mut self, state: &Snapshot, base: Base) -> Batch {
        let identity = self.image.identity;
        let moving = self.behind + self.bytes;
        let meta = Meta {
            installed: false,
            ..Meta::of_installed(identity, base, state)
        };
        *self = Trail {
            behind: moving,
            moving,
            writing: true,
            hurried: self.hurried,
            ..Trail::new(meta.clone(), self.interval)
        };
        Batch {
            replace: true,
            puts: state.tree.iter().cloned().collect(),
            deletes: Vec::new(),
            meta,
            state: state.tree.clone(),
        }
    }

    /// Whether every interval is over at once, until the image holds everything.
    pub fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    /// Bytes of log entries that the image on disk does not hold, when they are more than the log may keep for it. A few
    /// intervals are usual; many mean that the image cannot keep up.
    pub fn too_far_behind(&self) -> Option<u64> {
        let bytes = self.behind + self.bytes;
        (bytes > self.interval.bytes.saturating_mul(MAX_INTERVALS)).then_some(bytes)
    }

    /// Takes the state now as the next goal; returns the batch that moves the image to the goal before.
    pub fn advance(&mut self, state: Snapshot, base: Base) -> Option<Batch> {
        let changed = std::mem::take(&mut self.changed);
        let passed = self.behind;
        self.behind += std::mem::take(&mut self.bytes);
        self.entries = 0;
        let mut goal = self.next.replace(Cut {
            state,
            base: base.clone(),
            totals: self.totals,
            changed,
        })?;
        if planted(Bug::AppliedIndexAside) {
            goal.base = base;
        }
        self.moving = passed;
        let batch = batch(&self.image, goal);
        self.image = batch.meta.clone();
        self.writing = true;
        Some(batch)
    }

    /// The image was replaced by another state.
    pub fn restart(&mut self, image: Meta) {
        *self = Trail {
            // A batch on its way was written before the replacement, and its answer is still to come.
            writing: self.writing,
            hurried: self.hurried,
            ..Trail::new(image, self.interval)
        };
    }

    /// The batch of the last [`Trail::advance`] is on disk: the log up to the returned base may be cut.
    pub fn written(&mut self) -> Base {
        self.writing = false;
        self.behind -= std::mem::take(&mut self.moving);
        self.image.base.clone()
    }
}

fn batch(image: &Meta, goal: Cut) -> Batch {
    let Totals { keys, digest, bytes } = goal.totals;
    let meta = Meta {
        identity: image.identity,
        base: goal.base,
        revision: goal.state.revision(),
        keys,
        digest,
        bytes,
        installed: false,
    };
    let (mut puts, mut deletes) = (Vec::with_capacity(goal.changed.len()), Vec::new());
    for (key, Changed { was, now }) in goal.changed {
        match now {
            Some(entry) => puts.push(entry),
            None if was => deletes.push(key),
            None => (),
        }
    }
    Batch {
        replace: false,
        puts,
        deletes,
        meta,
        state: goal.state.tree,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::image::memory::MemoryImage;
    use crate::log::Identity;
    use crate::model::{Op, Revision, Txn};
    use crate::mvcc::Mvcc;

    #[test]
    fn a_hot_key_costs_one_write_of_the_image() {
        let mut mvcc = Mvcc::default();
        let identity = Identity {
            cluster: 1,
            member: 2,
        };
        let interval = Interval {
            entries: 1000,
            bytes: u64::MAX,
        };
        let image = Meta::of_installed(identity, Base::default(), &mvcc.snapshot());
        let mut trail = Trail::new(image, interval);
        let mut batches = Vec::new();
        for _ in 0..3 {
            for n in 0..1000u64 {
                let (key, value) = (Bytes::from_static(b"hot"), Bytes::from(n.to_string()));
                let applied = mvcc.apply(Txn::new(vec![], vec![Op::Put { key, value }]));
                trail.note(&applied.events, 1, 1);
            }
            assert!(trail.due());
            batches.extend(trail.advance(mvcc.snapshot(), Base::default()));
            trail.written();
        }
        assert_eq!(batches.len(), 2);
        for batch in batches {
            assert_eq!((batch.puts.len(), batch.deletes.len()), (1, 0));
            assert_eq!(batch.puts[0].value, "999");
        }
    }

    #[test]
    fn in_a_hurry_the_image_catches_up_without_another_write() {
        let mut mvcc = Mvcc::default();
        let identity = Identity {
            cluster: 1,
            member: 2,
        };
        let image = Meta::of_installed(identity, Base::default(), &mvcc.snapshot());
        let mut trail = Trail::new(image, Interval::default());
        let op = Op::Put {
            key: "k".into(),
            value: "v".into(),
        };
        let applied = mvcc.apply(Txn::new(vec![], vec![op]));
        trail.note(&applied.events, 1, 1);
        assert!(!trail.due());
        trail.hurry(true);
        let base = Base {
            index: 1,
            ..Base::default()
        };
        assert!(trail.due() && trail.advance(mvcc.snapshot(), base.clone()).is_none());
        let batch = trail.due().then(|| trail.advance(mvcc.snapshot(), base.clone()));
        assert_eq!(batch.flatten().map(|batch| batch.puts.len()), Some(1));
        assert!(!trail.due(), "one batch at a time");
        assert_eq!(trail.written(), base);
        assert!(!trail.due(), "nothing is left");
    }

    #[test]
    fn an_image_that_does_not_keep_up_is_noticed() {
        let interval = Interval {
            entries: 1,
            bytes: 10,
        };
        let state = Snapshot {
            revision: Revision::INITIAL,
            tree: crate::tree::Tree::default(),
        };
        let identity = Identity {
            cluster: 1,
            member: 2,
        };
        let image = Meta::of_installed(identity, Base::default(), &state);
        let mut trail = Trail::new(image, interval);
        // One batch is on its way and does not come back.
        for _ in 0..2 {
            trail.note(&[], 1, 10);
            trail.advance(state.clone(), Base::default());
        }
        for _ in 0..6 {
            assert_eq!(trail.too_far_behind(), None);
            trail.note(&[], 1, 10);
        }
        trail.note(&[], 1, 1);
        assert_eq!(trail.too_far_behind(), Some(81));
        trail.written();
        assert_eq!(trail.too_far_behind(), None);
    }

    #[test]
    fn the_image_is_always_the_state_of_one_interval_ago() {
        let mut mvcc = Mvcc::default();
        let meta = Meta {
            identity: Identity {
                cluster: 1,
                member: 2,
            },
            base: Base::default(),
            revision: Revision::INITIAL,
            keys: 0,
            digest: 0,
            bytes: 0,
            installed: false,
        };
        let (mut trail, mut image) = (
            Trail::new(
                meta,
                Interval {
                    entries: 50,
                    bytes: u64::MAX,
                },
            ),
            MemoryImage::default(),
        );
        let mut states = Vec::new();
        for round in 0u64..6 {
            for n in 0..50u64 {
                let key = Bytes::from(format!("k{}", (n * 13 + round * 7) % 31));
                let op = if (n + round) % 4 == 0 {
                    Op::Delete { key }
                } else {
                    Op::Put {
                        key,
                        value: Bytes::new(),
                    }
                };
                let applied = mvcc.apply(Txn::new(vec![], vec![op]));
                trail.note(&applied.events, 1, 1);
            }
            assert!(trail.due());
            states.push(mvcc.snapshot());
            let base = Base {
                index: round,
                ..Base::default()
            };
            let Some(batch) = trail.advance(mvcc.snapshot(), base) else {
                assert_eq!(round, 0, "only the first goal has none before it");
                continue;
            };
            assert!(!trail.due(), "one batch at a time");
            image.write(&batch).expect("write");
            assert_eq!(trail.written().index, round - 1);
            let (meta, tree) = image.load().expect("a whole image").expect("an image");
            let expected = &states[round as usize - 1];
            assert_eq!(meta.revision, expected.revision());
            assert_eq!(
                tree.iter().collect::<Vec<_>>(),
                expected.tree.iter().collect::<Vec<_>>()
            );
        }
    }
}
