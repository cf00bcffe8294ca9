//! A Secret's value is nowhere it has no business to be: not on disk, not in a backup, not in a log, however much the
//! server says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corten_tests::cluster::binary;
use corten_tests::{Lone, command};
use serde_json::json;

/// Looked for as it is, and in the forms of base64 that a value of a Secret takes.
const CANARY: &str = "canary-7f3a9c51e8d24b06-in-the-mine";
const LIMIT: Duration = Duration::from_secs(60);

/// Every file below a folder, but kubectl's own cache.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            _ => found.push(path),
        }
    }
}

fn forms() -> Vec<String> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut forms = vec![CANARY.to_owned()];
    // Its place in what is encoded decides between three forms; the ends depend on what is beside it.
    for shift in 0..3 {
        let shifted = format!("{}{CANARY}", "x".repeat(shift));
        let encoded = engine.encode(shifted);
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

/// The files that hold the canary in any form.
fn holding(folder: &Path) -> (usize, Vec<PathBuf>) {
    let mut all = Vec::new();
    files(folder, &mut all);
    let forms = forms();
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        forms.iter().any(|form| text.contains(form.as_str()))
    };
    let count = all.len();
    (count, all.into_iter().filter(holds).collect())
}

#[test]
fn a_secret_is_nowhere_on_disk_nor_in_logs_nor_in_backups() {
    let mut server = Lone::start("trace");
    let kubectl = server.kubectl.clone();
    let secret = |name: &str| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "key": CANARY } });
    // Written, read, listed, patched, refused, deleted: every way a value takes through the server.
    let create = ["create", "-f", "-"];
    kubectl.run(&create, &secret("kept").to_string()).ok();
    kubectl.run(&create, &secret("gone").to_string()).ok();
    kubectl.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "seen" }, "data": { "marker": "a-value-that-may-be-seen" } }));
    assert!(kubectl.ok("get secret kept -o yaml").contains("kind: Secret"));
    kubectl.ok("get secrets -A -o json");
    kubectl.ok(&format!(
        r#"patch secret kept -p {{"stringData":{{"more":"{CANARY}-2"}}}}"#
    ));
    let mut bad = secret("Not A Name");
    assert!(!kubectl.run(&create, &bad.to_string()).succeeded());
    bad["metadata"]["name"] = "fine".into();
    bad["stringData"] = json!({ "key": { CANARY: 1 } });
    assert!(!kubectl.run(&create, &bad.to_string()).succeeded());
    kubectl.ok("delete secret gone");
    let backups = server.folder().join("backups");
    std::fs::create_dir(&backups).expect("a folder");
    let kubeconfig = server.kubeconfig();
    let mut save = Command::new(binary());
    save.args(["backup", "save"])
        .arg(&backups)
        .arg("--kubeconfig")
        .arg(&kubeconfig);
    command::run(&mut save, "", LIMIT).ok();
    for stopped in [false, true] {
        if stopped {
            server.stop(); // the state image is written out
        }
        let (count, found) = holding(&server.folder());
        assert!(count > 10, "only {count} files");
        // The server cannot know that a Secret's key, which it must name in its error, was meant to be a value.
        assert!(found.is_empty(), "{found:?}");
    }
    // The search itself finds what is there.
    std::fs::write(server.folder().join("planted"), format!("xx{CANARY}")).expect("a file");
    assert_eq!(holding(&server.folder()).1, [server.folder().join("planted")]);
    let log = std::fs::read_to_string(server.folder().join("server.log")).expect("a log");
    assert!(
        log.contains("TRACE"),
        "the log says all it can: {}",
        server.log_end()
    );
}
