//! The store without any front end: durable puts a second and fsyncs a write, against the disk's own fdatasync.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use corten_store::{Config, Op, Store, Txn};

use crate::figures::{self, Samples};

const VALUE: usize = 512;
const SERIAL: usize = 2_000;
const CONCURRENT: usize = 100_000;
const WRITERS: &[usize] = &[64, 256];

pub async fn run() -> Result<()> {
    let directory = tempfile::Builder::new()
        .prefix("corten-bench-")
        .tempdir_in("/var/tmp")?;
    let raw = fdatasync(&directory.path().join("raw"))?;
    figures::print("raw write + fdatasync of 512 bytes", &raw);
    let store = Store::open(Config::new(directory.path().join("store"))).await?;

    let mut serial = Samples::default();
    for number in 0..SERIAL {
        let begun = Instant::now();
        store.txn(put(number)).await?;
        serial.push(begun.elapsed());
    }
    figures::print("one writer, durable put", &serial);
    let ratio = serial.percentile(0.5).as_secs_f64() / raw.percentile(0.5).as_secs_f64();
    figures::ratio("durable put / fdatasync (p50)", ratio, "at most 1.3");

    for &writers in WRITERS {
        let before = store.status().fsyncs;
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..writers {
            let (store, next) = (store.clone(), next.clone());
            tasks.push(tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONCURRENT {
                        return anyhow::Ok(());
                    }
                    store.txn(put(number)).await?;
                }
            }));
        }
        for task in tasks {
            task.await??;
        }
        let rate = CONCURRENT as f64 / begun.elapsed().as_secs_f64();
        let fsyncs = (store.status().fsyncs - before) as f64;
        println!(
            "{writers} writers: {rate:.0} durable puts a second, {:.1} writes a fsync",
            CONCURRENT as f64 / fsyncs
        );
    }
    store.close().await;
    Ok(())
}

fn put(number: usize) -> Txn {
    let key = Bytes::from(format!("/core/pods/default/p-{:06}", number % 50_000));
    Txn {
        preconditions: Vec::new(),
        ops: vec![Op::Put {
            key,
            value: Bytes::from(vec![b'x'; VALUE]),
        }],
    }
}

fn fdatasync(path: &std::path::Path) -> Result<Samples> {
    let mut file = std::fs::File::create(path)?;
    let mut samples = Samples::default();
    for _ in 0..SERIAL {
        let begun = Instant::now();
        file.write_all(&[b'x'; VALUE])?;
        file.sync_data()?;
        samples.push(begun.elapsed());
    }
    Ok(samples)
}
