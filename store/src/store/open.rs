//! Starts the thread: opens the back ends, recovers, and hands out the first handle once the member can serve.

use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{oneshot, watch as tokio_watch};

use super::core::{Core, Fatal, Parts, Shared, mark};
use super::imager::Imager;
use super::owner::Owner;
use super::queue::{Queue, Request};
use super::recovery::{founder, joiner, recover};
use super::status::Counters;
use super::{Birth, Config, Inbox, Inner, Store};
use crate::error::OpenError;
use crate::halt;
use crate::image::Image;
use crate::image::memory::MemoryImage;
use crate::image::segments::SegmentImage;
use crate::image::trail::Trail;
use crate::log::engine::EngineLog;
use crate::log::memory::MemoryLog;
use crate::log::{Base, Identity, Log};
use crate::model::Revision;
use crate::mvcc::Mvcc;
use crate::replica::{Replica, Start};
use crate::space::Space;
use crate::transport::{NoPeers, Transport};
use crate::watch::Hub;

/// An interval of the image takes at most this share of the reserve, on a disk where that is less than was asked for.
const IMAGE_SHARE: u64 = 64;
const MIN_IMAGE_BYTES: u64 = 64 << 10;

type Opened = Result<(Arc<Hub>, tokio_watch::Receiver<Revision>, Identity), OpenError>;
/// Taken when the caller of `open` has its answer.
type Answer = Option<oneshot::Sender<Opened>>;

pub(super) async fn open(config: Config) -> Result<Store, OpenError> {
    let (queue, requests) = Queue::new();
    let queue = Arc::new(queue);
    let counters = Arc::new(Counters::default());
    let (done, done_receiver) = tokio_watch::channel(false);
    let (opened, opening) = oneshot::channel();
    let space = config.dir.as_deref().map(|dir| open_space(dir, config.reserve));
    let space = space.transpose()?.map(Arc::new);
    let (vital, pace) = (config.vital, config.scrub);
    let on_disk = config.dir.is_some();
    let dir = config.dir.clone();
    let mut config = config;
    if let Some(space) = &space {
        // What the image still has to take in must fit into the reserve.
        let bytes = (space.reserve() / IMAGE_SHARE).max(MIN_IMAGE_BYTES);
        config.image.bytes = config.image.bytes.min(bytes);
    }
    let thread = Thread {
        config,
        counters: counters.clone(),
        depth: queue.depth().clone(),
        sender: queue.sender(),
        requests,
        inbox: Inbox::new(queue.clone()),
        space: space.clone(),
    };
    std::thread::Builder::new()
        .name("store".into())
        .spawn(move || {
            stop_process_on_failure(dir.as_deref(), || thread.run(Some(opened)));
            let _ = done.send(true);
        })
        .map_err(OpenError::Thread)?;
    let (hub, applied, identity) = opening.await.expect("the thread answers or the process ends")?;
    let (scrub, stopped) = std::sync::mpsc::sync_channel(1);
    if on_disk {
        super::scrub::start(pace, queue.clone(), counters.clone(), stopped).map_err(OpenError::Thread)?;
    }
    Ok(Store {
        inner: Arc::new(Inner {
            hub,
            queue,
            counters,
            applied,
            done: done_receiver,
            identity,
            space,
            vital,
            _scrub: scrub,
        }),
    })
}

/// After a failed fsync, or a broken invariant, nothing is known about what is durable: nothing may be answered any
/// more. The supervisor starts the process again, and recovery looks at the disk afresh.
fn stop_process_on_failure<E: std::error::Error>(dir: Option<&Path>, run: impl FnOnce() -> Result<(), E>) {
    let reason = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => {
            let first: &dyn std::error::Error = &error;
            let chain: Vec<String> = std::iter::successors(Some(first), |error| error.source())
                .map(ToString::to_string)
                .collect();
            let chain = chain.join(": ");
            tracing::error!(error = chain, "the store cannot go on");
            chain
        }
        Err(_) => "the store's thread panicked".to_owned(),
    };
    eprintln!("corten: the store cannot go on: {reason}");
    if let Some(dir) = dir {
        halt::note(dir, &reason);
    }
    std::process::abort();
}

struct Thread {
    config: Config,
    counters: Arc<Counters>,
    depth: Arc<super::queue::Depth>,
    sender: std::sync::mpsc::SyncSender<Request>,
    requests: std::sync::mpsc::Receiver<Request>,
    inbox: Inbox,
    space: Option<Arc<Space>>,
}

/// Why the thread ends before its time.
enum Stop {
    /// Before anything was served: the caller of `open` is told.
    Refused(OpenError),
    Fatal(Fatal),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Stop::Refused(error)
    }
}

impl From<Fatal> for Stop {
    fn from(error: Fatal) -> Self {
        Stop::Fatal(error)
    }
}

impl Thread {
    fn run(self, mut opened: Answer) -> Result<(), Fatal> {
        match self.work(&mut opened) {
            Ok(()) => Ok(()),
            // By now the folder is unlocked: whoever hears of the refusal may try again at once.
            Err(Stop::Refused(error)) => {
                let opened = opened.take().expect("a refusal comes before the store serves");
                // The caller may have given up; then nobody needs to know.
                let _ = opened.send(Err(error));
                Ok(())
            }
            Err(Stop::Fatal(error)) => Err(error),
        }
    }

    fn work(self, opened: &mut Answer) -> Result<(), Stop> {
        let Some(dir) = self.config.dir.clone() else {
            let (identity, base) = born(self.config.birth);
            let log = MemoryLog::open(&crate::log::memory::Disk::default(), identity, base);
            return self.serve(log, MemoryImage::default(), Path::new("memory"), opened);
        };
        // Held until this returns.
        let _lock = lock(&dir)?;
        let log = open_log(&dir, self.config.birth, self.space.clone())?;
        let path = dir.join("image");
        let image = SegmentImage::new(&path).within(self.space.clone());
        self.serve(log, image, &path, opened)
    }

    fn serve(
        self,
        mut log: impl Log,
        mut image: impl Image,
        path: &Path,
        opened: &mut Answer,
    ) -> Result<(), Stop> {
        let seed = self.config.seed.unwrap_or_else(rand::random);
        let assembled = assemble(
            &self.config,
            (&mut log, &mut image, path),
            (rand::random(), seed),
            self.counters.clone(),
        )?;
        let Assembled {
            core,
            hub,
            applied,
            identity,
        } = assembled;
        let imager = Imager::start(image, self.sender).map_err(OpenError::Thread)?;
        let transport: Box<dyn Transport> = match &self.config.peers {
            Some(peers) => peers.connect(identity, self.inbox),
            None => Box::new(NoPeers),
        };
        let owner = Owner::new(core, log, imager, transport, self.counters, self.depth);
        let mut owner = owner.within(self.space);
        owner.start()?;
        // The caller may have given up: then all handles are gone, and the queue says so at once.
        if let Some(opened) = opened.take() {
            let _ = opened.send(Ok((hub.clone(), applied, identity)));
        }
        let end = owner.run(&self.requests);
        hub.close();
        Ok(end?)
    }
}

/// A core, and what its handles share with it.
pub(super) struct Assembled {
    pub core: Core,
    pub hub: Arc<Hub>,
    pub applied: tokio_watch::Receiver<Revision>,
    pub identity: Identity,
}

/// Makes a core out of what is on disk. `boot` is different at every start; election timeouts are drawn from `seed`.
///
/// # Errors
/// See [`recover`].
pub(super) fn assemble(
    config: &Config,
    (log, image, path): (&mut impl Log, &mut impl Image, &Path),
    (boot, seed): (u64, u64),
    counters: Arc<Counters>,
) -> Result<Assembled, OpenError> {
    let recovered = recover(log, image, path)?;
    counters.image_bytes.store(image.disk_bytes(), Ordering::Relaxed);
    let limits = config.history.clone();
    let hub = Hub::new(recovered.state.clone(), limits, config.max_watch_lag);
    let hub = Arc::new(hub.with_tagger(config.tagger));
    let (applied_sender, applied_receiver) = tokio_watch::channel(recovered.state.revision());
    let identity = recovered.log.identity;
    let applied = recovered.image.base.clone();
    let start = Start {
        log: recovered.log,
        applied: applied.clone(),
        entries: recovered.entries,
        boot,
        seed,
    };
    let core = Core::new(Parts {
        replica: Replica::new(start),
        identity,
        mvcc: Mvcc::resume(recovered.state, recovered.image.digest),
        trail: Trail::new(recovered.image, config.image),
        shared: Shared {
            hub: hub.clone(),
            counters,
            applied: applied_sender,
        },
        applied,
        mark: mark(identity.member, boot),
        vital: config.vital,
    });
    Ok(Assembled {
        core,
        hub,
        applied: applied_receiver,
        identity,
    })
}

fn open_space(dir: &Path, reserve: Option<u64>) -> Result<Space, OpenError> {
    let failed = |source| OpenError::Dir {
        dir: dir.into(),
        source,
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    Space::open(dir, reserve).map_err(failed)
}

pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Dir {
        dir: PathBuf::from(dir),
        source,
    };
    std::fs::create_dir_all(dir.join("log")).map_err(failed)?;
    // The folders themselves must survive a power cut, or everything in them is gone with their names.
    for folder in [Some(dir), dir.parent()]
        .into_iter()
        .flatten()
        .filter(|folder| folder.as_os_str() != "")
    {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
    }
    let file = File::create(dir.join("LOCK")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn open_log(dir: &Path, birth: Birth, space: Option<Arc<Space>>) -> Result<EngineLog, OpenError> {
    let (path, refuse) = (dir.join("log"), |source| OpenError::Log(Box::new(source)));
    let error = match EngineLog::open_within(space.clone(), &path, || born(birth)) {
        Ok(log) => return Ok(log),
        Err(error) => error,
    };
    match EngineLog::replace(space, &path).map_err(refuse)? {
        Some(log) => {
            tracing::error!(%error, "the log is put aside; the other members have to repair this one");
            Ok(log)
        }
        None => Err(refuse(error)),
    }
}

fn born(birth: Birth) -> (Identity, Base) {
    match birth {
        Birth::Found => founder(random_identity()),
        Birth::Join { cluster, member } => joiner(Identity { cluster, member }),
    }
}

/// Never 0, which Raft uses for "nobody".
pub(crate) fn random_identity() -> Identity {
    Identity {
        cluster: rand::random::<u64>() | 1,
        member: rand::random::<u64>() | 1,
    }
}
