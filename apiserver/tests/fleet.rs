//! A thousand clients that watch, lose their connection at random and resume, while others write: each ends with exactly
//! the state of a fresh list at the same revision. With lists and WatchLists, with and without selectors that objects
//! enter and leave, with and without the past being compacted away.
//!
//! `FLEET_SEED=n` replays the choices of one run; every run prints its seed.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{CONFIG_MAPS, World, config_map};
use corten_apiserver::body::BoxError;
use futures::{Stream, StreamExt};
use http::Request;
use http_body_util::Full;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Barrier;

const CLIENTS: usize = 1_000;
const WRITERS: usize = 6;
const WRITES_EACH: usize = 40;
/// Few enough that writers meet, enough that selectors cut.
const NAMES: usize = 24;
/// Written last; every selector selects it.
const END: &str = "the-end";
/// Longest wait for something that must come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

const SELECTORS: [&str; 4] = [
    "",
    "labelSelector=side%3Dleft",
    "labelSelector=side+notin+%28right%29%2C%21hidden",
    "fieldSelector=metadata.name%21%3Dc3",
];

type State = BTreeMap<String, u64>;

#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Object,
}

#[derive(Deserialize)]
struct List {
    metadata: Metadata,
    items: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    code: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    resource_version: String,
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    fn revision(&self) -> u64 {
        self.resource_version.parse().expect("a revision")
    }
}

/// One connection's lines.
struct Lines {
    body: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>,
    buffer: Vec<u8>,
}

impl Lines {
    async fn open(w: &World, path: &str) -> Lines {
        let request = Request::get(path).body(Full::default()).expect("request");
        let response = w.send(request).await;
        assert_eq!(response.status(), 200, "{path}");
        Lines {
            body: response.into_body().into_stream(),
            buffer: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = serde_json::from_slice(&self.buffer[..end]).expect("an event");
                self.buffer.drain(..=end);
                return Some(line);
            }
            self.buffer
                .extend_from_slice(&self.body.next().await?.expect("chunk"));
        }
    }
}

/// What one client knows and up to where.
struct Client {
    w: Arc<World>,
    selector: &'static str,
    /// Fetches its state by a watch, not by a list.
    watch_list: bool,
    rng: StdRng,
    state: State,
    revision: u64,
    relists: usize,
    done: bool,
}

/// Why a connection is over.
#[derive(PartialEq)]
enum Left {
    /// Resumes where it was.
    Cut,
    /// Has to fetch the state anew.
    Expired,
}

impl Client {
    async fn run(mut self) -> Client {
        if !self.watch_list {
            self.list().await;
        }
        while !self.done {
            let fresh = self.watch_list && self.revision == 0;
            if self.connect(fresh).await == Left::Expired {
                self.relists += 1;
                if self.watch_list {
                    self.revision = 0;
                } else {
                    self.list().await;
                }
            }
        }
        self
    }

    async fn list(&mut self) {
        let got = self.w.get(&format!("{CONFIG_MAPS}?{}", self.selector)).await;
        let list: List = serde_json::from_str(&got.text).expect("a list");
        self.state = list
            .items
            .iter()
            .map(|item| (item.metadata.name.clone(), item.metadata.revision()))
            .collect();
        self.revision = list.metadata.revision();
        self.done = self.state.contains_key(END);
    }

    /// Watches until cut off, by count or by time.
    async fn connect(&mut self, fresh: bool) -> Left {
        let mut path = format!("{CONFIG_MAPS}?watch=1&{}", self.selector);
        if fresh {
            path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        } else {
            path += &format!("&resourceVersion={}", self.revision);
        }
        let mut lines = Lines::open(&self.w.clone(), &path).await;
        if fresh {
            self.state.clear();
        }
        let mut initial = fresh;
        let count = self.rng.random_range(1..40);
        let patience = Duration::from_millis(self.rng.random_range(50..2_000));
        for _ in 0..count {
            // The state itself must come whole, or it is fetched again.
            let Ok(next) = tokio::time::timeout(patience, lines.next()).await else {
                return if initial { Left::Expired } else { Left::Cut };
            };
            let Some(line) = next else {
                return if initial { Left::Expired } else { Left::Cut };
            };
            if line.r#type == "ERROR" {
                assert_eq!(line.object.code, 410);
                return Left::Expired;
            }
            self.see(&line, &mut initial);
            if self.done {
                return Left::Cut;
            }
        }
        if initial { Left::Expired } else { Left::Cut }
    }

    fn see(&mut self, line: &Line, initial: &mut bool) {
        let metadata = &line.object.metadata;
        let revision = metadata.revision();
        let name = metadata.name.clone();
        let known = self.state.get(&name).copied();
        match (line.r#type.as_str(), known) {
            ("BOOKMARK", _) => {
                let end = metadata.annotations.contains_key("k8s.io/initial-events-end");
                assert!(end && *initial, "bookmarks come once a minute but for the first");
                *initial = false;
            }
            ("ADDED", None) => {
                self.state.insert(name.clone(), revision);
            }
            ("MODIFIED", Some(before)) if before < revision => {
                self.state.insert(name.clone(), revision);
            }
            ("DELETED", Some(before)) if before < revision => {
                self.state.remove(&name);
            }
            (kind, known) => panic!(
                "{kind} {name}@{revision}, known at {known:?}, client at {}",
                self.revision
            ),
        }
        if *initial {
            return; // in key order; the bookmark says up to where
        }
        assert!(
            revision > self.revision,
            "{name}@{revision} after {}",
            self.revision
        );
        self.revision = revision;
        self.done = self.state.contains_key(END);
    }
}

async fn write(w: Arc<World>, mut rng: StdRng) {
    for _ in 0..WRITES_EACH {
        let name = format!("c{}", rng.random_range(0..NAMES));
        let side = *["left", "right", "middle"].choose(&mut rng).expect("three");
        let path = format!("{CONFIG_MAPS}/{name}");
        match rng.random_range(0..10) {
            0..4 => {
                let mut object = config_map(&name);
                object["metadata"]["labels"] = json!({ "side": side });
                w.post(CONFIG_MAPS, &object).await;
            }
            4..7 => {
                let patch = json!({ "metadata": { "labels": { "side": side } } });
                w.patch(&path, "merge", &patch).await;
            }
            7 => {
                let hidden = rng.random_bool(0.5).then_some("yes");
                let patch = json!({ "metadata": { "labels": { "hidden": hidden } } });
                w.patch(&path, "merge", &patch).await;
            }
            _ => drop(w.delete(&path, &json!({})).await),
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
    }
}

/// Runs the fleet; `compact` throws the past away while it runs.
async fn run(compact: bool) {
    let seed = std::env::var("FLEET_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("FLEET_SEED={seed}");
    let mut seeds = StdRng::seed_from_u64(seed);
    let w = Arc::new(World::new().await);
    for name in 0..NAMES / 2 {
        w.post(CONFIG_MAPS, &config_map(&format!("c{name}"))).await;
    }
    let ready = Arc::new(Barrier::new(CLIENTS + 1));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client {
                w: w.clone(),
                selector: SELECTORS[number % SELECTORS.len()],
                watch_list: (number / SELECTORS.len()) % 2 == 1,
                rng: StdRng::seed_from_u64(seeds.random()),
                state: State::new(),
                revision: 0,
                relists: 0,
                done: false,
            };
            let ready = ready.clone();
            tokio::spawn(async move {
                ready.wait().await;
                client.run().await
            })
        })
        .collect();
    ready.wait().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| tokio::spawn(write(w.clone(), StdRng::seed_from_u64(seeds.random()))))
        .collect();
    let compactor = compact.then(|| {
        let store = w.store.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(150)).await;
                store.compact(store.snapshot().revision()).await.expect("compact");
            }
        })
    });
    for writer in writers {
        writer.await.expect("writer");
    }
    if let Some(compactor) = compactor {
        compactor.abort();
    }
    let mut end = config_map(END);
    end["metadata"]["labels"] = json!({ "side": "left" });
    let created = w.post(CONFIG_MAPS, &end).await.json();
    let at = created["metadata"]["resourceVersion"]
        .as_str()
        .expect("revision")
        .to_owned();

    let mut want = BTreeMap::new();
    for selector in SELECTORS {
        let path = format!("{CONFIG_MAPS}?{selector}&resourceVersion={at}&resourceVersionMatch=Exact");
        let list: List = serde_json::from_str(&w.get(&path).await.text).expect("a list");
        assert_eq!(list.metadata.resource_version, at);
        let state = list
            .items
            .iter()
            .map(|item| (item.metadata.name.clone(), item.metadata.revision()));
        want.insert(selector, state.collect::<State>());
    }
    assert!(
        want.values().collect::<std::collections::BTreeSet<_>>().len() > 2,
        "selectors differ"
    );
    let mut relists = 0;
    for (number, client) in clients.into_iter().enumerate() {
        let client = tokio::time::timeout(PATIENCE, client)
            .await
            .expect("in time")
            .expect("no panic");
        assert_eq!(
            client.state, want[client.selector],
            "client {number}, {}",
            client.selector
        );
        relists += client.relists;
    }
    println!("{relists} states fetched anew");
    assert!(!compact || relists > 0, "compaction was felt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_resume_end_like_a_fresh_list() {
    run(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_do_while_the_past_is_compacted() {
    run(true).await;
}
