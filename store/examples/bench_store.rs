//! How fast the store takes durable writes, next to the disk itself.
//!
//! `cargo run --release -p corten-store --example bench_store -- [dir] [writers] [seconds] [value bytes]`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_store::{Config, Op, Store, Txn, prefix_range};
use futures::StreamExt;

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "bench-store".into()));
    let writers: Vec<usize> = args
        .next()
        .map_or(vec![1, 16, 64, 256], |text| vec![text.parse().expect("writers")]);
    let seconds: u64 = args.next().map_or(3, |text| text.parse().expect("seconds"));
    let size: usize = args
        .next()
        .map_or(1024, |text| text.parse().expect("value bytes"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let raw = raw_syncs(&dir, size);
    println!("raw write + fdatasync of {size} bytes: {raw:.0}/s");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("runtime");
    for writers in writers {
        runtime.block_on(run(&dir, writers, Duration::from_secs(seconds), size, raw));
    }
    runtime.block_on(run_readers(&dir, Duration::from_secs(seconds.min(2))));
    let open = Instant::now();
    let store = runtime.block_on(Store::open(Config::new(&dir))).expect("open");
    let status = store.status();
    println!(
        "reopen with {} keys, {} replayed events: {:?}",
        status.keys,
        status.history_events,
        open.elapsed()
    );
    runtime.block_on(store.close());
    std::fs::remove_dir_all(&dir).expect("clean up");
}

/// Linearizable reads, and one stream of writes that many watchers follow.
async fn run_readers(dir: &Path, time: Duration) {
    let store = Store::open(Config::new(dir)).await.expect("open");
    let (start, mut reads) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        store.read_barrier().await.expect("barrier");
        reads += u64::from(
            store
                .snapshot()
                .get(b"/registry/pods/namespace-0/pod-1")
                .is_some(),
        );
    }
    println!(
        "{:.0} linearizable gets/s by one task",
        reads as f64 / start.elapsed().as_secs_f64()
    );
    let (start, mut listed) = (Instant::now(), 0usize);
    while start.elapsed() < time {
        listed += store.snapshot().range(prefix_range(b"/registry/")).count();
    }
    println!(
        "{:.1} M entries/s listed",
        listed as f64 / start.elapsed().as_secs_f64() / 1e6
    );
    let watchers: Vec<_> = (0..1000)
        .map(|_| {
            let from = store.snapshot().revision();
            let mut watch = store.watch(prefix_range(b"/registry/"), from).expect("watch");
            tokio::spawn(async move {
                let mut seen = 0u64;
                while let Some(Ok(_)) = watch.next().await {
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    let (start, mut written) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        let puts = (0..64).map(|n| {
            let key = Bytes::from(format!("/registry/events/{n}"));
            store.txn(Txn::new(
                vec![],
                vec![Op::Put {
                    key,
                    value: Bytes::from_static(&[7; 512]),
                }],
            ))
        });
        for put in futures::future::join_all(puts).await {
            put.expect("put");
            written += 1;
        }
    }
    store.close().await;
    let mut seen = 0;
    for watcher in watchers {
        seen += watcher.await.expect("watcher");
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(seen, written * 1000, "each watcher saw each write once");
    println!(
        "1000 watchers: {:.0} puts/s, {:.2} M events/s",
        written as f64 / seconds,
        seen as f64 / seconds / 1e6
    );
}

fn raw_syncs(dir: &Path, size: usize) -> f64 {
    let mut file = std::fs::File::create(dir.join("raw")).expect("a file");
    file.write_all(&vec![0; 16 << 20]).expect("write");
    file.sync_all().expect("sync");
    std::io::Seek::rewind(&mut file).expect("rewind");
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < Duration::from_secs(1) && (count as usize + 1) * size < 16 << 20 {
        file.write_all(&vec![1; size]).expect("write");
        file.sync_data().expect("sync");
        count += 1;
    }
    f64::from(count) / start.elapsed().as_secs_f64()
}

async fn run(dir: &Path, writers: usize, time: Duration, size: usize, raw: f64) {
    let store = Store::open(Config::new(dir)).await.expect("open");
    let stop = Arc::new(AtomicBool::new(false));
    let (puts, slowest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let before = store.status();
    let cpu = cpu_seconds();
    let start = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let (store, stop, puts, slowest) = (store.clone(), stop.clone(), puts.clone(), slowest.clone());
            tokio::spawn(async move {
                let mut n = 0u64;
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let key = Bytes::from(format!("/registry/pods/namespace-{writer}/pod-{}", n % 500));
                    let value = Bytes::from(vec![n as u8; size]);
                    let asked = Instant::now();
                    store
                        .txn(Txn::new(vec![], vec![Op::Put { key, value }]))
                        .await
                        .expect("put");
                    latencies.push(asked.elapsed());
                    slowest.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                    puts.fetch_add(1, Ordering::Relaxed);
                    n += 1;
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("writer"));
    }
    let elapsed = start.elapsed().as_secs_f64();
    let after = store.status();
    let fsyncs = after.fsyncs - before.fsyncs;
    let rate = latencies.len() as f64 / elapsed;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{writers:>4} writers: {rate:>8.0} puts/s ({:.2} x raw), {:.3} fsyncs/put, largest batch {}, p50 {:?}, p99 {:?}, \
         max {} us, {:.1} us CPU/put, image at {} of {}",
        rate / raw,
        fsyncs as f64 / latencies.len() as f64,
        after.largest_batch,
        at(0.5),
        at(0.99),
        slowest.load(Ordering::Relaxed),
        (cpu_seconds() - cpu) * 1e6 / latencies.len() as f64,
        after.image_applied,
        after.applied,
    );
    store.close().await;
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("user") + fields[12].parse::<f64>().expect("system");
    ticks / 100.0
}
