//! A member without threads: whoever holds it brings time, disk and network. The store's thread does the same with real
//! ones; this is how a simulator runs the same code.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use raft::eraftpb::Entry;
use tokio::sync::watch as tokio_watch;

use super::core::{Action, Core, Fatal};
use super::open::{Assembled, assemble};
use super::queue::{MAX_BATCH_BYTES, Queue, Request, fill};
use super::status::Counters;
use super::{Config, Inner, Store};
use crate::error::OpenError;
use crate::image::{Image, ImageError};
use crate::log::{Base, Durable, Log};
use crate::replica::{Fetch, Role};

/// Requests that may wait; the next one is refused as overloaded.
const MAX_WAITING: usize = 256;

/// The core of one member, and what waits for it.
pub struct Driven {
    core: Core,
    requests: Receiver<Request>,
    queue: Arc<Queue>,
    /// Dropped with the member: then handles know that it is gone.
    _done: tokio_watch::Sender<bool>,
}

impl Driven {
    /// Opens a member on what `log` and `image` hold, and a handle to it. `boot` is different at every start; of
    /// `config`, `dir`, `birth` and `peers` are not looked at.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        config: &Config,
        log: &mut impl Log,
        image: &mut impl Image,
        boot: u64,
    ) -> Result<(Store, Driven), OpenError> {
        let (queue, requests) = Queue::of(MAX_WAITING);
        let (queue, counters) = (Arc::new(queue), Arc::new(Counters::default()));
        let (done, done_receiver) = tokio_watch::channel(false);
        let start = (boot, config.seed.unwrap_or(boot));
        let Assembled {
            core,
            hub,
            applied,
            identity,
        } = assemble(config, (log, image, Path::new("memory")), start, counters.clone())?;
        let store = Store {
            inner: Arc::new(Inner {
                hub,
                queue: queue.clone(),
                counters,
                applied,
                done: done_receiver,
                identity,
                space: None,
                vital: config.vital,
                _scrub: std::sync::mpsc::sync_channel(1).0,
            }),
        };
        let driven = Driven {
            core,
            requests,
            queue,
            _done: done,
        };
        Ok((store, driven))
    }

    /// See [`Core::start`]. Like every step it leaves actions to do.
    ///
    /// # Errors
    /// See [`Fatal`]: the process would end.
    pub fn start(&mut self) -> Result<(), Fatal> {
        self.core.start()
    }

    /// Serves what waits, as one batch, and a tick if one has passed; whether more waits.
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn serve(&mut self, now: Duration, ticked: bool) -> Result<bool, Fatal> {
        let mut batch = Vec::new();
        if let Ok(first) = self.requests.try_recv() {
            fill(
                &mut batch,
                first,
                &self.requests,
                self.queue.depth(),
                MAX_BATCH_BYTES,
            );
        }
        self.core.serve(now, batch.into_iter(), ticked)?;
        Ok(self.waiting())
    }

    /// Whether requests wait.
    pub fn waiting(&self) -> bool {
        self.queue.waiting().0 > 0
    }

    /// See [`Core::next_action`].
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn next_action(&mut self) -> Result<Option<Action>, Fatal> {
        self.core.next_action()
    }

    /// See [`Core::persisted`].
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn persisted(&mut self, durable: Durable) -> Result<(), Fatal> {
        self.core.persisted(durable)
    }

    /// See [`Core::fetched`].
    ///
    /// # Errors
    /// See [`Fatal`].
    pub fn fetched(&mut self, fetch: Fetch, entries: Vec<Entry>) -> Result<(), Fatal> {
        self.core.fetched(fetch, entries)
    }

    /// How [`Action::WriteImage`] ended, with the image's size in bytes. To be served like any request.
    pub fn image_written(&self, written: Result<u64, ImageError>) {
        // It has a reserved place.
        let _ = self.queue.sender().try_send(Request::ImageWritten(written));
    }

    pub fn role(&self) -> Role {
        self.core.role()
    }

    /// The newest applied entry, and the membership as of it.
    pub fn applied(&self) -> &Base {
        self.core.applied()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::command;
    use crate::image::memory::MemoryImage;
    use crate::image::trail::Interval;
    use crate::log::Identity;
    use crate::log::memory::{Disk, MemoryLog};
    use crate::model::{Op, Revision, Txn};
    use crate::store::Change;
    use crate::store::members::conf_change;
    use crate::store::recovery::founder;

    struct World {
        /// The queue closes with the last handle.
        _store: Store,
        driven: Driven,
        log: MemoryLog,
        image: MemoryImage,
        /// Where each image stands.
        bases: Vec<Base>,
    }

    /// A member alone, with an image every few entries.
    fn world(entries: u64) -> World {
        let (identity, base) = founder(Identity {
            cluster: 1,
            member: 2,
        });
        let mut log = MemoryLog::open(&Disk::default(), identity, base);
        let mut image = MemoryImage::default();
        let config = Config {
            image: Interval {
                entries,
                ..Interval::default()
            },
            ..Config::in_memory()
        };
        let (store, mut driven) = Driven::open(&config, &mut log, &mut image, 1).expect("fits");
        driven.start().expect("starts");
        let mut world = World {
            _store: store,
            driven,
            log,
            image,
            bases: Vec::new(),
        };
        world.perform();
        world
    }

    impl World {
        /// Does what is asked for, at once.
        fn perform(&mut self) {
            while let Some(action) = self.driven.next_action().expect("goes on") {
                match action {
                    Action::Append(batch) => {
                        let durable = self.log.append(batch).expect("append");
                        self.driven.persisted(durable).expect("goes on");
                    }
                    Action::WriteImage(batch) => {
                        self.image.write(&batch).expect("write");
                        self.bases.push(batch.meta.base);
                        self.driven.image_written(Ok(0));
                    }
                    _ => (),
                }
            }
        }

        /// Serves all of them as one batch.
        fn serve(&mut self, requests: impl IntoIterator<Item = Request>) {
            for request in requests {
                self.driven.queue.send(request).expect("room");
            }
            self.driven.serve(Duration::ZERO, false).expect("goes on");
            self.perform();
        }
    }

    fn put(n: u64) -> Request {
        let op = Op::Put {
            key: format!("k{n}").into(),
            value: "v".into(),
        };
        Request::Txn {
            data: command::encode_txn(&Txn::new(vec![], vec![op])),
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn what_is_applied_with_a_compaction_is_in_the_image() {
        let mut world = world(3);
        for round in 0..9 {
            let compact = Request::Compact {
                data: command::encode_compact(Revision(round + 1)),
                reply: oneshot::channel().0,
            };
            world.serve([put(round), compact]);
        }
        let (meta, tree) = world.image.load().expect("a whole image").expect("an image");
        assert!(meta.revision > Revision::INITIAL);
        assert_eq!(tree.len() as u64, meta.revision.0 - 1);
    }

    #[test]
    fn an_image_has_the_membership_of_its_entry() {
        let mut world = world(1);
        world.serve([put(0)]);
        let before = world.driven.applied().index;
        world.serve([Request::Conf {
            change: conf_change(&[Change::AddLearner(9)]),
            reply: oneshot::channel().0,
        }]);
        for round in 1..5 {
            world.serve([put(round)]);
        }
        assert!(world.bases.last().is_some_and(|base| base.index > before + 1));
        for base in world.bases {
            let learners: &[u64] = if base.index > before { &[9] } else { &[] };
            assert_eq!(base.conf_state.learners, learners, "at {}", base.index);
        }
    }

    #[test]
    fn a_start_notes_the_peers_that_a_crash_kept_from_being_noted() {
        let (identity, mut base) = founder(Identity {
            cluster: 1,
            member: 2,
        });
        base.conf_state.voters.push(3);
        let mut log = MemoryLog::open(&Disk::default(), identity, base);
        let config = Config::in_memory();
        let (_store, mut driven) =
            Driven::open(&config, &mut log, &mut MemoryImage::default(), 1).expect("fits");
        driven.start().expect("starts");
        assert!(matches!(driven.next_action(), Ok(Some(Action::NotePeers(true)))));
    }
}
