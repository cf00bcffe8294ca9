//! CPU of one write by step, each step alone in this process: what the front end and the store do with a Pod, without
//! sockets. Delivery to watchers is measured with them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use corten_api::resource::{By, CreateContext};
use corten_api::{FieldValidation, json, meta, registry};
use corten_store::mvcc::Mvcc;
use corten_store::{Config, Op, Precondition, Store, Txn, command};
use serde_json::Value;

use super::pods::pod;
use super::{Cpu, scaled};

const ROUNDS: usize = 20_000;

pub async fn run() -> Result<()> {
    let rounds = scaled(ROUNDS);
    let pods = registry().lookup("", "v1", "pods").context("Pods are built in")?;
    let bodies: Vec<Bytes> = (0..rounds).map(pod).collect();

    let (decode, decoded) = each(&bodies, |body| {
        pods.decode(body, FieldValidation::Strict)
            .map(|decoded| decoded.value)
    });
    let decoded: Vec<Value> = decoded
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|status| anyhow::anyhow!(status.message))?;
    let (default, defaulted) = each_owned(decoded, |mut value| {
        pods.set_defaults(&mut value);
        value
    });
    let context = CreateContext {
        namespace: "default",
        uid: "0dcf8b32-2b83-4a31-95b9-4a1e50c77b5f",
        now: jiff::Timestamp::now(),
        name_suffix: "abcde",
    };
    let by = By {
        manager: "bench",
        subresource: None,
        now: context.now,
    };
    let (own, owned) = each_owned(defaulted, |mut value| {
        let managers = pods.managers_of_new(&mut value, by);
        (value, managers.unwrap_or_default())
    });
    let (prepare, prepared) = each_owned(owned, |(mut value, managers)| {
        let verdict = pods.prepare_create(&mut value, &context);
        (value, managers, verdict.is_ok())
    });
    anyhow::ensure!(
        prepared
            .iter()
            .all(|(_, managers, fine)| *fine && !managers.is_empty()),
        "the bench's Pods are valid, and their managers are told at once"
    );
    let (encode, encoded) = each(&prepared, |(object, managers, _)| {
        let fields = pods.selectable_fields(object);
        let size: usize = fields.iter().map(|(_, value)| value.len()).sum();
        let mut bytes = Vec::with_capacity(2048 + managers.len() + size);
        json::write(&mut bytes, object);
        bytes.extend_from_slice(managers.as_bytes());
        Bytes::from(bytes)
    });
    let keys = prepared
        .iter()
        .map(|(object, ..)| Bytes::from(format!("/core/pods/default/{}", meta::name(object))));
    let txns: Vec<Txn> = keys
        .zip(encoded)
        .map(|(key, value)| {
            Txn::new(
                vec![Precondition::Absent(key.clone())],
                vec![Op::Put { key, value }],
            )
        })
        .collect();
    let (seal, sealed) = each(&txns, |txn| Bytes::from(command::encode_txn(txn)));
    let mut mvcc = Mvcc::default();
    let (apply, applied) = each(&sealed, |data| match command::decode(data) {
        Ok(command::Command::Txn(txn)) => mvcc.apply(txn).events.len(),
        _ => 0,
    });
    anyhow::ensure!(applied.iter().all(|events| *events == 1), "every write happened");
    let propose = through_store(txns).await?;

    println!("CPU of one POST of a Pod by step, {rounds} times each, alone on its core:");
    let steps = [
        ("decode, strict", decode),
        ("default", default),
        ("own its fields", own),
        ("metadata and validate", prepare.saturating_sub(default)),
        ("encode", encode),
        ("propose: write the log entry", seal),
        ("apply to the key space", apply),
        ("propose to answer, whole store, 64 writers", propose),
    ];
    for (name, took) in steps {
        println!("  {name:<46} {:>7.2} us", took.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// CPU a transaction of the whole store on tmpfs, from the proposal to the answer.
async fn through_store(txns: Vec<Txn>) -> Result<Duration> {
    let directory = tempfile::Builder::new()
        .prefix("corten-bench-")
        .tempdir_in("/dev/shm")?;
    let store = Store::open(Config::new(directory.path())).await?;
    let count = txns.len();
    let cpu = Cpu::of(std::process::id());
    let mut writers = Vec::new();
    for part in txns.chunks(count.div_ceil(64)) {
        let (store, part) = (store.clone(), part.to_vec());
        writers.push(tokio::spawn(async move {
            for txn in part {
                store.txn(txn).await?;
            }
            anyhow::Ok(())
        }));
    }
    for writer in writers {
        writer.await??;
    }
    let used = cpu.used();
    store.close().await;
    Ok(used / u32::try_from(count)?)
}

/// Time of one step over all inputs, divided by their number, and what came out.
fn each<T, R>(inputs: &[T], mut step: impl FnMut(&T) -> R) -> (Duration, Vec<R>) {
    let mut out = Vec::with_capacity(inputs.len());
    let started = Instant::now();
    for input in inputs {
        out.push(step(input));
    }
    (share(started.elapsed(), inputs.len()), out)
}

fn each_owned<T, R>(inputs: Vec<T>, mut step: impl FnMut(T) -> R) -> (Duration, Vec<R>) {
    let count = inputs.len();
    let mut out = Vec::with_capacity(count);
    let started = Instant::now();
    for input in inputs {
        out.push(step(input));
    }
    (share(started.elapsed(), count), out)
}

fn share(all: Duration, count: usize) -> Duration {
    all.div_f64(count.max(1) as f64)
}
