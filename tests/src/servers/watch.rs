//! Watchers that go on where they were, on whatever server: every event once, in order, and never a new list.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::load::{names, revision};
use super::{NAMESPACE, Servers};

const OPEN_LIMIT: Duration = Duration::from_secs(15);
/// How long watchers may take to have seen what a list shows.
const CATCH_UP: Duration = Duration::from_secs(30);

/// What one watcher has.
#[derive(Debug, Default, Clone)]
pub struct Cached {
    pub objects: BTreeMap<String, u64>,
    /// Up to where it has seen everything.
    pub seen: u64,
    /// Streams it had to open after its first.
    pub moves: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    relists: AtomicU64,
    broken: Mutex<Vec<String>>,
}

pub struct Watchers {
    servers: Servers,
    shared: Arc<Shared>,
    caches: Vec<watch::Receiver<Cached>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watchers {
    /// Each lists once, then watches; number n begins at server n.
    #[must_use]
    pub fn start(servers: &Servers, count: usize) -> Watchers {
        let shared = Arc::new(Shared::default());
        let mut watchers = Watchers {
            servers: servers.clone(),
            shared: shared.clone(),
            caches: Vec::new(),
            tasks: Vec::new(),
        };
        for number in 0..count {
            let (sender, receiver) = watch::channel(Cached::default());
            watchers.caches.push(receiver);
            let task = follow(servers.clone(), number, shared.clone(), sender);
            watchers.tasks.push(tokio::spawn(task));
        }
        watchers
    }

    /// Waits until every watcher has what a fresh list has. What must not be; and how often streams were opened anew.
    pub async fn finish(mut self) -> (Vec<String>, u64) {
        let mut moves = 0;
        match names(&self.servers, 0).await {
            None => self
                .shared
                .broken
                .lock()
                .expect("no holder panics")
                .push("no list at the end".into()),
            Some((_, expected)) => {
                for (number, cache) in self.caches.iter_mut().enumerate() {
                    let equal = cache.wait_for(|cached| cached.objects == expected);
                    let equal = tokio::time::timeout(CATCH_UP, equal)
                        .await
                        .is_ok_and(|found| found.is_ok());
                    let cached = cache.borrow().clone();
                    moves += cached.moves;
                    if !equal {
                        let wrong = expected
                            .iter()
                            .find(|(name, revision)| cached.objects.get(*name) != Some(revision));
                        let mut broken = self.shared.broken.lock().expect("no holder panics");
                        broken.push(format!(
                            "watcher {number} at {} differs from the list: {wrong:?}, {} of {} objects",
                            cached.seen,
                            cached.objects.len(),
                            expected.len()
                        ));
                    }
                }
            }
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        self.tasks.drain(..).for_each(|task| task.abort());
        let mut broken = self.shared.broken.lock().expect("no holder panics").clone();
        let relists = self.shared.relists.load(Ordering::SeqCst);
        if relists > 0 {
            broken.push(format!("{relists} watches had to list again"));
        }
        (broken, moves)
    }
}

async fn follow(servers: Servers, number: usize, shared: Arc<Shared>, cache: watch::Sender<Cached>) {
    let mut client = servers.client(number);
    while cache.borrow().seen == 0 {
        match names(&servers, number).await {
            Some((at, objects)) => {
                cache.send_modify(|cached| (cached.seen, cached.objects) = (at, objects));
            }
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    while !shared.stop.load(Ordering::SeqCst) {
        let from = cache.borrow().seen;
        let path = format!(
            "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&labelSelector=soak&allowWatchBookmarks=true&resourceVersion={from}"
        );
        let Ok(answer) = client.open(&path, Instant::now() + OPEN_LIMIT).await else {
            continue;
        };
        if answer.status() != 200 {
            client.move_on();
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let mut body = answer.into_body();
        let mut rest = Vec::new();
        'stream: while let Some(Ok(frame)) = body.frame().await {
            rest.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if let Err(why) = take(&cache, &line) {
                    // This server has not come as far yet: another one has.
                    if why.contains("Too large resource version") {
                        break 'stream;
                    }
                    if why.contains("410") {
                        shared.relists.fetch_add(1, Ordering::SeqCst);
                    }
                    shared
                        .broken
                        .lock()
                        .expect("no holder panics")
                        .push(format!("watcher {number}: {why}"));
                    return;
                }
            }
        }
        client.move_on();
        cache.send_modify(|cached| cached.moves += 1);
    }
}

/// One event: newer than everything before it.
fn take(cache: &watch::Sender<Cached>, line: &[u8]) -> Result<(), String> {
    let event: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let (kind, object) = (event["type"].as_str().unwrap_or_default(), &event["object"]);
    if kind == "ERROR" {
        return Err(object.to_string());
    }
    let at = revision(object).ok_or_else(|| format!("an event without a revision: {event}"))?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut order = Ok(());
    cache.send_modify(|cached| {
        if at < cached.seen || (at == cached.seen && kind != "BOOKMARK") {
            order = Err(format!("{kind} {name} at {at} after {}", cached.seen));
            return;
        }
        cached.seen = at;
        match kind {
            "BOOKMARK" => {}
            "DELETED" => drop(cached.objects.remove(&name)),
            _ => drop(cached.objects.insert(name, at)),
        }
    });
    order
}
