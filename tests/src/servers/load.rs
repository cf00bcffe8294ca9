//! Writers and readers that know what must be true: an acknowledged write is there, a read that begins after a write was
//! acknowledged sees it, on whatever server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Failed, NAMESPACE, Servers};

/// Objects of one writer.
const KEYS: usize = 8;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(2);
/// Answers kept to look for gaps.
const MAX_TIMES: usize = 2_000_000;

/// What a whole run saw.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub writes: u64,
    pub reads: u64,
    pub lists: u64,
    /// Requests without a clear answer.
    pub unknown: u64,
    /// Answers that say the server cannot, now.
    pub refused: u64,
    /// What must not be; empty in a good run.
    pub broken: Vec<String>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// By name: the newest acknowledged revision.
    acknowledged: Mutex<BTreeMap<String, u64>>,
    newest: AtomicU64,
    report: Mutex<Report>,
    wrote: Mutex<Vec<Instant>>,
    read: Mutex<Vec<Instant>>,
}

impl Shared {
    fn broken(&self, what: String) {
        println!("BROKEN: {what}");
        self.report.lock().expect("no holder panics").broken.push(what);
    }

    fn count(&self, add: impl FnOnce(&mut Report)) {
        add(&mut self.report.lock().expect("no holder panics"));
    }

    fn acknowledge(&self, name: &str, revision: u64) {
        let mut all = self.acknowledged.lock().expect("no holder panics");
        let held = all.entry(name.to_owned()).or_default();
        if *held >= revision {
            let what = format!("{name}: acknowledged at {revision} after {held}");
            drop(all);
            return self.broken(what);
        }
        *held = revision;
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }
}

/// Runs until [`Load::finish`].
pub struct Load {
    servers: Servers,
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    /// `writers` and `readers` begin at different servers; one more reads lists.
    #[must_use]
    pub fn start(servers: &Servers, writers: usize, readers: usize) -> Load {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        for number in 0..writers {
            tasks.push(tokio::spawn(write(servers.clone(), number, shared.clone())));
        }
        for number in 0..readers {
            tasks.push(tokio::spawn(read(servers.clone(), number, shared.clone())));
        }
        tasks.push(tokio::spawn(list(servers.clone(), shared.clone())));
        Load {
            servers: servers.clone(),
            shared,
            tasks,
        }
    }

    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.report.lock().expect("no holder panics").writes
    }

    /// The longest times without an acknowledged write, and without a read, that began in `from..to`.
    #[must_use]
    pub fn gaps(&self, from: Instant, to: Instant) -> (Duration, Duration) {
        let longest = |times: &Mutex<Vec<Instant>>| {
            let times = times.lock().expect("no holder panics");
            let inside = times.iter().rev().take_while(|time| **time >= from);
            let mut inside: Vec<Instant> = inside.copied().filter(|time| *time < to).collect();
            inside.push(from);
            inside.sort_unstable();
            let gaps = inside.windows(2).map(|pair| pair[1] - pair[0]);
            gaps.max().unwrap_or(to - from)
        };
        (longest(&self.shared.wrote), longest(&self.shared.read))
    }

    /// Ends the load and compares a fresh list with what was acknowledged.
    pub async fn finish(mut self) -> Report {
        self.shared.stop.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            if task.await.is_err() {
                self.shared.broken("a client panicked".into());
            }
        }
        for number in 0..self.servers.addresses.len() {
            match names(&self.servers, number).await {
                Some((_, found)) => {
                    for (name, revision) in self.shared.acknowledged.lock().expect("no holder panics").clone()
                    {
                        if found.get(&name).is_none_or(|held| *held < revision) {
                            let held = found.get(&name);
                            self.shared
                                .broken(format!("{name}: acknowledged at {revision}, is at {held:?}"));
                        }
                    }
                }
                None => self.shared.broken("no list at the end".into()),
            }
        }
        self.shared.report.lock().expect("no holder panics").clone()
    }
}

/// A fresh list from one server, or the next: its revision, and every object's.
pub(super) async fn names(servers: &Servers, number: usize) -> Option<(u64, BTreeMap<String, u64>)> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector=soak");
    let (code, body) = servers.client(number).send("GET", &path, "").await.ok()?;
    if code != 200 {
        return None;
    }
    let list: Value = serde_json::from_slice(&body).ok()?;
    let items = list["items"].as_array()?.iter();
    let all = items.map(|item| Some((item["metadata"]["name"].as_str()?.to_owned(), revision(item)?)));
    Some((revision(&list)?, all.collect::<Option<_>>()?))
}

pub(super) fn revision(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// Writes its own objects one after the other, each under the revision it knows. After an unknown outcome it reads first.
async fn write(servers: Servers, number: usize, shared: Arc<Shared>) {
    let mut client = servers.client(number);
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut known: Vec<Option<u64>> = vec![None; KEYS];
    let mut unsure = [true; KEYS];
    let mut count = 0u64;
    while !shared.stop.load(Ordering::SeqCst) {
        count += 1;
        let key = (count % KEYS as u64) as usize;
        let name = format!("w{number}-{key}");
        let path = format!("{collection}/{name}");
        if unsure[key] {
            match client.send("GET", &path, "").await {
                Ok((200, body)) => {
                    known[key] = serde_json::from_slice::<Value>(&body)
                        .ok()
                        .as_ref()
                        .and_then(revision);
                    unsure[key] = false;
                }
                Ok((404, _)) => {
                    if known[key].is_some() {
                        shared.broken(format!("{name} is gone"));
                    }
                    unsure[key] = false;
                }
                _ => {
                    shared.count(|report| report.unknown += 1);
                    continue;
                }
            }
        }
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "labels": { "soak": "yes" } },
            "data": { "count": count.to_string(), "filler": "x".repeat(200) },
        });
        let (method, to) = match known[key] {
            Some(revision) => {
                object["metadata"]["resourceVersion"] = revision.to_string().into();
                ("PUT", &path)
            }
            None => ("POST", &collection),
        };
        match client.send(method, to, &object.to_string()).await {
            Ok((200 | 201, body)) => match serde_json::from_slice::<Value>(&body)
                .ok()
                .as_ref()
                .and_then(revision)
            {
                Some(revision) => {
                    known[key] = Some(revision);
                    shared.acknowledge(&name, revision);
                    shared.count(|report| report.writes += 1);
                    note(&shared.wrote);
                }
                None => shared.broken(format!("{name}: an answer without a revision")),
            },
            Ok((409, body)) => {
                // Only an earlier try of ours with an unknown outcome may have been faster.
                shared.broken(format!("{name}: {}", String::from_utf8_lossy(&body)));
                unsure[key] = true;
            }
            Ok((code, body)) if code >= 500 || code == 429 => {
                shared.count(|report| report.refused += 1);
                tracing_line(&name, code, &body);
                unsure[key] = true;
                client.move_on();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok((code, body)) => shared.broken(format!("{name}: {code} {}", String::from_utf8_lossy(&body))),
            Err(Failed::Nobody) => {}
            Err(Failed::Unknown(_)) => {
                shared.count(|report| report.unknown += 1);
                unsure[key] = true;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a server refuses is worth seeing, a line each.
fn tracing_line(name: &str, code: u16, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    println!(
        "refused: {name}: {code} {}",
        status["message"].as_str().unwrap_or(&text)
    );
}

fn note(times: &Mutex<Vec<Instant>>) {
    let mut times = times.lock().expect("no holder panics");
    if times.len() < MAX_TIMES {
        times.push(Instant::now());
    }
}

/// Reads single objects; none may be older than what was acknowledged before the request.
async fn read(servers: Servers, number: usize, shared: Arc<Shared>) {
    let mut client = servers.client(number);
    let mut turn = number;
    while !shared.stop.load(Ordering::SeqCst) {
        turn += 1;
        let picked = {
            let all = shared.acknowledged.lock().expect("no holder panics");
            let count = all.len().max(1);
            all.iter()
                .nth(turn % count)
                .map(|(name, revision)| (name.clone(), *revision))
        };
        let Some((name, floor)) = picked else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}");
        match client.send("GET", &path, "").await {
            Ok((200, body)) => {
                let seen = serde_json::from_slice::<Value>(&body)
                    .ok()
                    .as_ref()
                    .and_then(revision);
                if seen.is_none_or(|seen| seen < floor) {
                    shared.broken(format!(
                        "stale read of {name}: {seen:?}, acknowledged was {floor}"
                    ));
                }
                shared.count(|report| report.reads += 1);
                note(&shared.read);
            }
            Ok((404, _)) => shared.broken(format!("{name} is not there, acknowledged was {floor}")),
            Ok(_) => {
                shared.count(|report| report.refused += 1);
                client.move_on();
            }
            Err(_) => shared.count(|report| report.unknown += 1),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn list(servers: Servers, shared: Arc<Shared>) {
    let mut number = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        number += 1;
        let before = shared.acknowledged.lock().expect("no holder panics").clone();
        let newest = before.values().copied().max().unwrap_or(0);
        if let Some((at, found)) = names(&servers, number).await {
            if at < newest {
                shared.broken(format!("stale list at {at}, acknowledged was {newest}"));
            }
            for (name, floor) in before {
                if found.get(&name).is_none_or(|held| *held < floor) {
                    shared.broken(format!(
                        "list at {at} has {name} at {:?}, not {floor}",
                        found.get(&name)
                    ));
                }
            }
            shared.count(|report| report.lists += 1);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
