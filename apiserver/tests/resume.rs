//! A client that lists, watches, is cut off at random and resumes ends with the state of a fresh list.

mod common;

use std::collections::BTreeMap;

use common::{CONFIG_MAPS, World, config_map};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a writer does, on one of a few names.
#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Relabel(u8, bool),
    Delete(u8),
    /// The client takes this many events, then loses its connection.
    Read(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6u8).prop_map(Step::Put),
        2 => (0..6u8, any::<bool>()).prop_map(|(name, on)| Step::Relabel(name, on)),
        2 => (0..6u8).prop_map(Step::Delete),
        1 => (0..4u8).prop_map(Step::Read),
    ]
}

const SELECTED: &str = "labelSelector=on%3Dtrue";

type State = BTreeMap<String, String>;

/// A client: what it knows and up to where.
struct Client {
    state: State,
    revision: String,
}

fn version(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("name"), text("resourceVersion"))
}

async fn listed(w: &World) -> Client {
    let list = w.get(&format!("{CONFIG_MAPS}?{SELECTED}")).await.json();
    let items = list["items"].as_array().expect("items");
    Client {
        state: items.iter().map(version).collect(),
        revision: list["metadata"]["resourceVersion"]
            .as_str()
            .expect("revision")
            .to_owned(),
    }
}

impl Client {
    /// Takes up to `count` events from where it is, then is cut off.
    async fn read(&mut self, w: &World, count: usize) {
        let path = format!(
            "{CONFIG_MAPS}?watch=1&{SELECTED}&resourceVersion={}",
            self.revision
        );
        let mut events = w.watch(&path).await;
        for _ in 0..count {
            let next = tokio::time::timeout(std::time::Duration::from_millis(2), events.next()).await;
            let Ok(Some(event)) = next else { return };
            let (name, revision) = version(&event["object"]);
            match event["type"].as_str() {
                Some("ADDED") => assert!(
                    self.state.insert(name.clone(), revision.clone()).is_none(),
                    "added twice: {name}"
                ),
                Some("MODIFIED") => assert!(
                    self.state.insert(name.clone(), revision.clone()).is_some(),
                    "not there: {name}"
                ),
                Some("DELETED") => assert!(self.state.remove(&name).is_some(), "not there: {name}"),
                other => panic!("{other:?}"),
            }
            assert!(
                revision.parse::<u64>().ok() > self.revision.parse::<u64>().ok(),
                "in order"
            );
            self.revision = revision;
        }
    }
}

async fn run(steps: Vec<Step>) {
    let w = World::new().await;
    let mut client = listed(&w).await;
    for step in steps {
        match step {
            Step::Put(name) => {
                let mut object = config_map(&format!("c{name}"));
                object["metadata"]["labels"] = json!({ "on": "true" });
                w.post(CONFIG_MAPS, &object).await;
            }
            Step::Relabel(name, on) => {
                let patch = json!({ "metadata": { "labels": { "on": on.to_string() } } });
                w.patch(&format!("{CONFIG_MAPS}/c{name}"), "merge", &patch).await;
            }
            Step::Delete(name) => {
                w.delete(&format!("{CONFIG_MAPS}/c{name}"), &json!({})).await;
            }
            Step::Read(count) => client.read(&w, count.into()).await,
        }
    }
    client.read(&w, usize::MAX).await;
    assert_eq!(client.state, listed(&w).await.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_resumed_watch_ends_like_a_fresh_list(steps in prop::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(run(steps));
    }
}
