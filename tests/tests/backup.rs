//! A backup that is saved while others write, restored as a new cluster: everything that was acknowledged before is
//! there, kubectl sees it, revisions have jumped, and nobody can watch or read the past of the old one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use corten_tests::api::Api;
use corten_tests::bare::Bare;
use corten_tests::{cluster, command};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JUMP: u64 = 1_000_000_000;
const LIMIT: Duration = Duration::from_secs(60);

fn write(api: &Api, name: &str) {
    let answer = api.post(
        MAPS,
        &json!({ "metadata": { "name": name }, "data": { "name": name } }),
    );
    assert_eq!(answer.code, 201, "{}", answer.json());
}

fn revision(list: &Value) -> u64 {
    let text = list["metadata"]["resourceVersion"].as_str().expect("a revision");
    text.parse().expect("a number")
}

#[track_caller]
fn corten(words: &[&str]) -> String {
    command::run(Command::new(cluster::binary()).args(words), "", LIMIT).ok()
}

#[test]
fn a_backup_becomes_a_new_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let server = Bare::start(&folder.path().join("old"), &[]);
    let api = server.api();
    let before: Vec<String> = (0..30).map(|n| format!("before-{n:02}")).collect();
    before.iter().for_each(|name| write(&api, name));

    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writer = std::thread::spawn({
        let (api, stop, written) = (api.clone(), stop.clone(), written.clone());
        move || {
            while !stop.load(Ordering::SeqCst) {
                write(&api, &format!("during-{:05}", written.load(Ordering::SeqCst)));
                written.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let kubeconfig = server.kubeconfig().display().to_string();
    let acknowledged = written.load(Ordering::SeqCst);
    let saved = corten(&["backup", "save", &path("backups"), "--kubeconfig", &kubeconfig]);
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("every write was taken");
    let listed = corten(&["backup", "list", &path("backups"), "--verify"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let old = revision(&api.get(MAPS).json());
    drop(server);

    // As the README says: the old keys beside the restored store.
    let file = saved.split(" saved").next().expect("the path comes first");
    let copied = Command::new("cp")
        .args(["-r", &path("old/pki"), &path("pki")])
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    std::fs::create_dir(folder.path().join("new")).expect("make");
    std::fs::rename(folder.path().join("pki"), folder.path().join("new/pki")).expect("move");
    let restored = corten(&["backup", "restore", file, "--data-dir", &path("new")]);
    assert!(restored.contains("revisions from"), "{restored}");
    let again = Command::new(cluster::binary())
        .args(["backup", "restore", file, "--data-dir", &path("new")])
        .output();
    assert!(
        again.is_ok_and(|output| !output.status.success()),
        "what is there is not overwritten"
    );

    let server = Bare::start(&folder.path().join("new"), &[]);
    let api = server.api();
    let list = api.get(MAPS).json();
    assert!(revision(&list) > JUMP, "{}", revision(&list));
    let names: Vec<&str> = list["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    for name in &before {
        assert!(
            names.contains(&name.as_str()),
            "{name} was acknowledged before the backup"
        );
    }
    let during = names.iter().filter(|name| name.starts_with("during-")).count();
    assert!(during >= acknowledged, "{during} of {acknowledged}");
    let kubectl = command::run(
        Command::new("kubectl")
            .args(["--kubeconfig", &server.kubeconfig().display().to_string()])
            .args(["get", "configmaps", "-o", "name"]),
        "",
        LIMIT,
    );
    assert!(kubectl.ok().contains("configmap/before-29"));

    // Who watched the old cluster has to list again, whether its revision was before the backup or after it.
    for from in [old - 20, old] {
        let answer = api.get(&format!("{MAPS}?watch=1&timeoutSeconds=5&resourceVersion={from}"));
        let said = answer.json();
        let code = said["code"].as_u64().or(said["object"]["code"].as_u64());
        assert_eq!(code, Some(410), "{said}");
    }
    let exact = api.get(&format!(
        "{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact"
    ));
    assert_eq!(exact.code, 410, "{}", exact.json());
    write(&api, "after");
}
