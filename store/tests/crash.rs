//! kill -9 at random points: every acknowledged write is there afterwards, and no revision is given twice.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use corten_store::{
    Config, ImageInterval, Op, Precondition, Revision, Store, Txn, TxnOutcome, WatchItem, prefix_range,
};
use futures::StreamExt;
use rand::{Rng, SeedableRng};

const CHILD_DIR: &str = "CORTEN_CRASH_DIR";
const WRITERS: usize = 16;
const KEYS_PER_WRITER: u64 = 20;

fn config(dir: &Path) -> Config {
    // A small interval, so that kills also hit image batches and log cuts.
    Config {
        image: ImageInterval {
            entries: 400,
            bytes: 1 << 20,
        },
        ..Config::new(dir)
    }
}

/// Not a test of its own: the process that gets killed. Prints `writer key-number counter revision` for each
/// acknowledged write, one `write` call each, so that no line is ever half.
#[test]
fn child_writes_until_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("runtime");
    runtime.block_on(async {
        let store = Store::open(config(Path::new(&dir))).await.expect("open");
        say("ready");
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_forever(store.clone(), writer)))
            .collect();
        for writer in writers {
            writer.await.expect("writer");
        }
    });
}

fn say(line: &str) {
    std::io::stdout()
        .write_all(format!("@{line}\n").as_bytes())
        .expect("the parent reads");
}

async fn write_forever(store: Store, writer: usize) {
    let mut n = 0u64;
    loop {
        let number = n % KEYS_PER_WRITER;
        let key = Bytes::from(format!("/{writer}/{number}"));
        let current = store.snapshot().get(&key);
        let counter = current.as_ref().map_or(0, |entry| counter(&entry.value)) + 1;
        let precondition = match &current {
            None => Precondition::Absent(key.clone()),
            Some(entry) => Precondition::ModRevision(key.clone(), entry.mod_revision),
        };
        let mut value = counter.to_le_bytes().to_vec();
        value.resize(8 + (counter as usize * 37) % 3000, b'x');
        let op = Op::Put {
            key,
            value: value.into(),
        };
        let outcome = store
            .txn(Txn::new(vec![precondition], vec![op]))
            .await
            .expect("txn");
        let TxnOutcome::Committed { revision, .. } = outcome else {
            panic!("only this writer writes its keys")
        };
        say(&format!("{writer} {number} {counter} {revision}"));
        n += 1;
    }
}

fn counter(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().expect("a counter"))
}

/// Acknowledged writes, as the parent heard of them.
#[derive(Default)]
struct Heard {
    newest: HashMap<(usize, u64), (u64, u64)>,
    revisions: BTreeMap<u64, (usize, u64, u64)>,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let words: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect();
        let [writer, number, counter, revision] = words[..] else {
            panic!("a whole line: {line}")
        };
        let writer = writer as usize;
        let taken = self.revisions.insert(revision, (writer, number, counter));
        assert_eq!(taken, None, "revision {revision} was given twice");
        let newest = self.newest.entry((writer, number)).or_default();
        assert!(
            counter > newest.0 && revision > newest.1,
            "a writer's own writes go forward"
        );
        *newest = (counter, revision);
    }
}

fn run_and_kill(dir: &Path, after: Duration, heard: &mut Heard) {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args([
            "--exact",
            "child_writes_until_killed",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawn");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let (ready_sender, ready) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok);
        let mut acknowledged = Vec::new();
        for line in lines {
            // The test harness prints the test's name in front of the first line.
            let Some((_, line)) = line.split_once('@') else {
                continue;
            };
            if line == "ready" {
                let _ = ready_sender.send(());
            } else {
                acknowledged.push(line.to_owned());
            }
        }
        acknowledged
    });
    ready
        .recv_timeout(Duration::from_secs(30))
        .expect("the child opens its store");
    std::thread::sleep(after);
    child.kill().expect("kill");
    child.wait().expect("wait");
    for line in reader.join().expect("reader") {
        heard.line(&line);
    }
}

async fn check(dir: &Path, heard: &Heard) -> Revision {
    let store = Store::open(config(dir))
        .await
        .expect("what a kill leaves behind opens");
    let snapshot = store.snapshot();
    for ((writer, number), (acknowledged, revision)) in &heard.newest {
        let entry = snapshot
            .get(format!("/{writer}/{number}").as_bytes())
            .expect("an acknowledged key exists");
        let found = counter(&entry.value);
        assert!(
            found >= *acknowledged,
            "/{writer}/{number} is at {found}, {acknowledged} was acknowledged"
        );
        if found == *acknowledged {
            assert_eq!(entry.mod_revision.0, *revision);
        }
    }
    if let Some((last, _)) = heard.revisions.last_key_value() {
        assert!(snapshot.revision().0 >= *last);
    }
    recent_history_is_still_there(&store, heard).await;
    store.close().await;
    snapshot.revision()
}

/// A watcher that resumes across the kill sees the acknowledged writes it has missed.
async fn recent_history_is_still_there(store: &Store, heard: &Heard) {
    let status = store.status();
    let newest = status.revision;
    let from = Revision(newest.0.saturating_sub(200).max(status.oldest.0));
    let mut watch = store.watch(prefix_range(b"/"), from).expect("inside the window");
    let mut expected = from;
    while expected < newest {
        let Some(Ok(WatchItem::Event(event))) = watch.next().await else {
            panic!("an event")
        };
        expected = expected.next();
        assert_eq!(event.revision, expected);
        if let Some((writer, number, value)) = heard.revisions.get(&event.revision.0) {
            assert_eq!(event.key, format!("/{writer}/{number}"));
            assert_eq!(counter(&event.entry().expect("a put").value), *value);
        }
    }
}

#[test]
fn acknowledged_writes_survive_kill_nine() {
    let rounds: u64 = std::env::var("CORTEN_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12);
    let seed: u64 = std::env::var("SIM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(rand::random);
    println!("SIM_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    // Not below the system's temporary folder, which may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime");
    let mut heard = Heard::default();
    let mut before = Revision(0);
    for round in 0..rounds {
        let after = Duration::from_micros(random.random_range(0..200_000));
        run_and_kill(dir.path(), after, &mut heard);
        // Now and then the next child finds what a kill left, not what a clean close left.
        if round % 3 != 2 || round + 1 == rounds {
            let revision = runtime.block_on(check(dir.path(), &heard));
            assert!(revision >= before, "revisions never go back");
            before = revision;
        }
    }
    assert!(
        heard.revisions.len() as u64 > rounds * 10,
        "the load was too low to mean anything"
    );
    println!(
        "{} acknowledged writes over {rounds} kills, store at {before}",
        heard.revisions.len()
    );
}
