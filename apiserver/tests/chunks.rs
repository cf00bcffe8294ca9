//! A long list in chunks while others write: one consistent state; and what is told when the past is compacted away
//! between the chunks.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::{CONFIG_MAPS, Got, PODS, World, config_map, pod};
use corten_store::{Op, Txn};
use serde::Deserialize;
use serde_json::json;

const MANY: usize = 50_000;
const CHUNK: usize = 500;
/// Objects of one transaction: well below its bounds in operations and bytes.
const BATCH: usize = 1_000;

#[derive(Deserialize)]
struct List {
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    r#continue: Option<String>,
    remaining_item_count: Option<usize>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Meta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    resource_version: String,
}

fn list(got: &Got) -> List {
    assert_eq!(got.code, 200, "{}", got.text);
    serde_json::from_str(&got.text).expect("a list")
}

fn state(list: &List) -> BTreeMap<String, String> {
    let pairs = list.items.iter().map(|item| &item.metadata);
    pairs
        .map(|meta| (meta.name.clone(), meta.resource_version.clone()))
        .collect()
}

/// `count` Pods, written to the store as copies of one that the API made: 50,000 creates would test something else.
async fn fill(w: &World, count: usize) {
    let first = "pod-000000";
    assert_eq!(w.post(PODS, &pod(first)).await.code, 201);
    let key = Bytes::from(format!("/core/pods/default/{first}"));
    let made = w.store.snapshot().get(&key).expect("the Pod");
    let named = |bytes: &Bytes, name: &str| {
        let mut copy = bytes.to_vec();
        while let Some(at) = copy
            .windows(first.len())
            .position(|window| window == first.as_bytes())
        {
            copy[at..at + first.len()].copy_from_slice(name.as_bytes());
        }
        Bytes::from(copy)
    };
    let names: Vec<String> = (1..count).map(|number| format!("pod-{number:06}")).collect();
    for batch in names.chunks(BATCH) {
        let put = |name: &String| Op::Put {
            key: named(&made.key, name),
            value: named(&made.value, name),
        };
        w.store
            .txn(Txn::new(vec![], batch.iter().map(put).collect()))
            .await
            .expect("write");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_pods_in_chunks_are_one_state() {
    let w = Arc::new(World::new().await);
    fill(&w, MANY).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer: usize| {
            let (w, stop) = (w.clone(), stop.clone());
            tokio::spawn(async move {
                let mut writes = 0;
                for number in (writer..).step_by(3) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("pod-{:06}", number * 7_919 % MANY);
                    let path = format!("{PODS}/{name}");
                    match number % 4 {
                        0 => drop(w.delete(&path, &json!({ "gracePeriodSeconds": 0 })).await),
                        1 => drop(w.post(PODS, &pod(&format!("{name}-more"))).await),
                        _ => {
                            let patch = json!({ "metadata": { "labels": { "round": number.to_string() } } });
                            w.patch(&path, "merge", &patch).await;
                        }
                    }
                    writes += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                writes
            })
        })
        .collect();

    let mut seen = BTreeMap::new();
    let (mut revision, mut total, mut token, mut pages) = (None, None, None, 0);
    loop {
        let from = token
            .take()
            .map(|token: String| format!("&continue={token}"))
            .unwrap_or_default();
        let page = list(&w.get(&format!("{PODS}?limit={CHUNK}{from}")).await);
        pages += 1;
        let at = revision.get_or_insert_with(|| page.metadata.resource_version.clone());
        assert_eq!(page.metadata.resource_version, *at, "page {pages}");
        let items = page.items.len();
        for (name, version) in state(&page) {
            assert!(
                seen.last_key_value().is_none_or(|(last, _)| *last < name),
                "in order"
            );
            seen.insert(name, version);
        }
        let remaining = page.metadata.remaining_item_count;
        let all = *total.get_or_insert_with(|| items + remaining.expect("more than a page"));
        token = page.metadata.r#continue;
        assert_eq!(remaining, token.is_some().then(|| all - seen.len()));
        match token {
            Some(_) => assert_eq!(items, CHUNK),
            None => break,
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut writes = 0;
    for writer in writers {
        writes += writer.await.expect("writer");
    }
    println!("{pages} pages, {writes} writes meanwhile");
    assert!(pages >= MANY / CHUNK && writes > 0);
    let revision = revision.expect("a page");
    let newest = w.store.snapshot().revision().to_string();
    assert_ne!(newest, revision);
    let path = format!("{PODS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    let whole = list(&w.get(&path).await);
    assert_eq!(whole.metadata.resource_version, revision);
    assert!(whole.metadata.r#continue.is_none() && whole.metadata.remaining_item_count.is_none());
    assert_eq!(Some(whole.items.len()), total);
    assert_eq!(state(&whole), seen);
    // One page as long as the list is the list.
    let long = list(&w.get(&format!("{PODS}?limit={}", MANY * 2)).await);
    assert!(long.metadata.r#continue.is_none());
    let now = list(&w.get(&format!("{PODS}?resourceVersion=0&limit={CHUNK}")).await);
    assert_eq!(
        state(&now),
        state(&long),
        "a limit is not looked at where a cache may answer"
    );
}

#[tokio::test]
async fn pages_go_on_after_compaction_and_miss_nothing_that_stayed() {
    let w = World::new().await;
    for number in 0..30 {
        assert_eq!(
            w.post(CONFIG_MAPS, &config_map(&format!("m{number:02}")))
                .await
                .code,
            201
        );
    }
    let mut seen: Vec<String> = Vec::new();
    let (mut token, mut expired) = (None::<String>, 0);
    for round in 0.. {
        let from = token
            .as_ref()
            .map(|token| format!("&continue={token}"))
            .unwrap_or_default();
        let got = w.get(&format!("{CONFIG_MAPS}?limit=4{from}")).await;
        if got.code == 410 {
            expired += 1;
            let status = got.json();
            assert_eq!(
                (status["kind"].as_str(), status["reason"].as_str()),
                (Some("Status"), Some("Expired"))
            );
            assert!(
                status["message"].as_str().is_some_and(|text| text.starts_with(
                    "The provided continue parameter is too old to display a consistent list result."
                )),
                "{status}"
            );
            let fresh = status["metadata"]["continue"]
                .as_str()
                .expect("a token")
                .to_owned();
            assert_ne!(Some(&fresh), token.as_ref());
            token = Some(fresh);
            continue;
        }
        let page = list(&got);
        seen.extend(page.items.into_iter().map(|item| item.metadata.name));
        token = page.metadata.r#continue;
        if token.is_none() {
            break;
        }
        // Between the pages: one that was seen goes, one ahead comes, and every other time the past is forgotten.
        w.delete(&format!("{CONFIG_MAPS}/{}", seen[0]), &json!({})).await;
        w.post(CONFIG_MAPS, &config_map(&format!("n{round:02}"))).await;
        if round % 2 == 0 {
            w.store
                .compact(w.store.snapshot().revision())
                .await
                .expect("compact");
        }
    }
    assert!(expired > 1);
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, seen, "in order, each once");
    for number in 0..30 {
        assert!(
            seen.contains(&format!("m{number:02}")),
            "m{number:02} was there all the time it was asked for"
        );
    }
}
