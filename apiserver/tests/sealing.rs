//! Encryption at rest through the front door: what is stored shows nothing, what is read is what was written.
//!
//! One test, for a process has one ring of keys.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::World;
use corten_apiserver::sealing::{self, Ring};
use serde_json::json;

const CANARY: &str = "canary-3f6c1b";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn configuration(providers: &str) -> Ring {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers: [{providers}]\n"
    );
    Ring::parse(&text).expect("a configuration")
}

fn aes(byte: u8) -> String {
    format!(
        "{{aesgcm: {{keys: [{{name: k{byte}, secret: {}}}]}}}}",
        STANDARD.encode([byte; 32])
    )
}

/// Stored values that hold the text.
fn holding(world: &World, text: &str) -> usize {
    let snapshot = world.store.snapshot();
    let all = snapshot.range(bytes::Bytes::from_static(b"/")..bytes::Bytes::from_static(b"0"));
    all.filter(|entry| {
        entry
            .value
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
    .count()
}

#[tokio::test]
async fn secrets_are_stored_sealed_and_follow_the_configuration() {
    let world = World::new().await;
    let secret = |name: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": name, "labels": { "app": "x" }, "annotations": { "note": CANARY } }, "stringData": { "key": CANARY } })
    };
    let encoded = STANDARD.encode(CANARY);

    // Plain at first, as in a cluster that was never told.
    assert_eq!(world.post(SECRETS, &secret("old")).await.code, 201);
    assert!(holding(&world, &encoded) > 0);

    sealing::install(configuration(&format!("{}, {{identity: {{}}}}", aes(1))));
    let before = world.get(SECRETS).await.json()["metadata"]["resourceVersion"].clone();
    let mut events = world
        .watch(&format!(
            "{SECRETS}?watch=1&labelSelector=app=x&resourceVersion={}",
            before.as_str().expect("text")
        ))
        .await;
    assert_eq!(world.post(SECRETS, &secret("new")).await.code, 201);
    let event = events.next().await.expect("an event");
    assert_eq!(
        event["object"]["data"]["key"], encoded,
        "a watcher reads what was written"
    );
    let done = world.server.rewrite_sealed().await.expect("rewritten");
    assert_eq!(done.rewritten, 1, "{done:?}");
    assert_eq!((holding(&world, &encoded), holding(&world, CANARY)), (0, 0));

    let list = world.get(&format!("{SECRETS}?labelSelector=app=x")).await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    assert_eq!(list["items"][0]["data"]["key"], encoded);
    // A write that changes nothing is seen to change nothing.
    let same = json!({ "metadata": { "labels": { "app": "x" } } });
    let one = world
        .patch(&format!("{SECRETS}/new"), "merge", &same)
        .await
        .json();
    let two = world
        .patch(&format!("{SECRETS}/new"), "merge", &same)
        .await
        .json();
    assert_eq!(
        one["metadata"]["resourceVersion"],
        two["metadata"]["resourceVersion"]
    );

    // Another key first: what is stored follows, the old key can go.
    sealing::install(configuration(&format!("{}, {}", aes(2), aes(1))));
    assert_eq!(
        world.server.rewrite_sealed().await.expect("rewritten").rewritten,
        2
    );
    assert_eq!(
        world.server.rewrite_sealed().await.expect("rewritten").rewritten,
        0
    );
    sealing::install(configuration(&aes(2)));
    assert_eq!(
        world.get(&format!("{SECRETS}/old")).await.json()["data"]["key"],
        encoded
    );

    // Without the key nothing is read, and nothing is made up.
    sealing::install(configuration(&aes(3)));
    assert_eq!(world.get(&format!("{SECRETS}/old")).await.code, 500);

    sealing::install(configuration(&format!("{{identity: {{}}}}, {}", aes(2))));
    assert_eq!(
        world.server.rewrite_sealed().await.expect("rewritten").rewritten,
        2
    );
    assert!(
        holding(&world, &encoded) > 0,
        "identity first decrypts what is stored"
    );
}
