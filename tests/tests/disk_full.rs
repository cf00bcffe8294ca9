//! A real server on a file system of 32 MiB that fills up: what grows is refused with a Status that says so, what does
//! not grow goes on, nothing that was acknowledged is lost, and once there is room everything goes on by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corten_tests::api::{Answer, Api};
use corten_tests::bare::Bare;
use corten_tests::eventually;
use serde_json::json;

const SIZE_MIB: usize = 32;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
/// Bytes of one large object.
const LARGE: usize = 700 << 10;
const CLEARS: Duration = Duration::from_secs(10);

/// A file system in a file, for as long as this lives.
struct Loop(PathBuf);

impl Loop {
    fn mount(folder: &Path) -> Loop {
        let (image, at) = (folder.join("disk"), folder.join("mounted"));
        std::fs::create_dir(&at).expect("make");
        let file = std::fs::File::create(&image).expect("create");
        file.set_len((SIZE_MIB << 20) as u64).expect("length");
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0", "-F"])
            .arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at));
        Loop(at)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("start");
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn map(api: &Api, name: &str, bytes: usize) -> Answer {
    let data = json!({ "v": "x".repeat(bytes) });
    api.post(MAPS, &json!({ "metadata": { "name": name }, "data": data }))
}

/// What must go on may have to wait until the image has caught up, no longer.
fn goes_on(what: &str, ask: impl Fn() -> Answer) {
    eventually(what, CLEARS, || {
        let answer = ask();
        match answer.code {
            200 | 201 => Ok(()),
            429 => Err(answer.json()),
            _ => panic!("{what}: {}", answer.json()),
        }
    });
}

fn delete(api: &Api, name: &str) {
    let path = format!("{MAPS}/{name}");
    goes_on("a deletion", || {
        api.send("DELETE", &path, "application/json", b"")
    });
}

fn lease(api: &Api, name: &str) {
    let lease = json!({ "metadata": { "name": name } });
    goes_on("a Lease", || api.post(LEASES, &lease));
}

/// Writes large objects until one is refused for want of room; their names.
fn fill(api: &Api, round: &str) -> Vec<String> {
    let mut names = Vec::new();
    eventually("the disk is full", Duration::from_secs(60), || {
        loop {
            let name = format!("{round}-{:03}", names.len());
            let answer = map(api, &name, LARGE);
            match answer.code {
                201 => names.push(name),
                429 => return Err("the image has to catch up"),
                _ => {
                    let status = answer.json();
                    assert_eq!(
                        (answer.code, &status["kind"]),
                        (507, &json!("Status")),
                        "{status}"
                    );
                    assert_eq!(status["reason"], "InsufficientStorage");
                    let message = status["message"].as_str().expect("a text");
                    assert!(message.contains("disk is full"), "{message}");
                    return Ok(());
                }
            }
        }
    });
    names
}

/// Nobody has to do anything: the next small object is taken after a while.
fn clears(api: &Api, name: &str) {
    eventually("there is room again", CLEARS, || {
        let answer = map(api, name, 10);
        if answer.code == 201 {
            Ok(())
        } else {
            Err(answer.json())
        }
    });
}

#[test]
fn a_full_disk_refuses_what_grows_and_clears_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Loop::mount(folder.path());
    let mut server = Bare::start(&disk.0.join("data"), &[]);
    let api = server.api();
    let names = fill(&api, "a");
    assert!(
        names.len() > 8,
        "{} objects of {LARGE} bytes were taken",
        names.len()
    );

    // What does not grow, or must not stop.
    lease(&api, "while-full");
    let path = format!("{MAPS}/{}", names[0]);
    let patch = json!({ "metadata": { "labels": { "touched": "yes" } } }).to_string();
    goes_on("a label", || {
        api.send("PATCH", &path, "application/merge-patch+json", patch.as_bytes())
    });

    server.kill_and_start();
    let api = server.api();
    for name in &names {
        assert_eq!(
            api.get(&format!("{MAPS}/{name}")).code,
            200,
            "{name} was acknowledged"
        );
    }
    assert_eq!(map(&api, "refused", LARGE).code, 507, "it is as full as before");

    let (gone, kept) = names.split_at(names.len() / 2);
    gone.iter().for_each(|name| delete(&api, name));
    clears(&api, "after-deletions");

    // Others take all there is, the reserve too.
    let hog = disk.0.join("hog");
    let mut file = std::fs::File::create(&hog).expect("create");
    let chunk = vec![1u8; 256 << 10];
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
    drop(file);
    // The server finds out with what it writes next.
    let mut hogged = (0..).map(|n| map(&api, &format!("hogged-{n}"), LARGE));
    eventually("the disk is full", CLEARS, || {
        match hogged.next().map(|answer| answer.code) {
            Some(507) => Ok(()),
            code => Err(format!("{code:?}")),
        }
    });
    std::fs::remove_file(&hog).expect("remove");
    clears(&api, "after-the-hog");
    delete(&api, &kept[0]);
    lease(&api, "after-the-hog");

    server.kill_and_start();
    let api = server.api();
    for name in kept[1..]
        .iter()
        .map(String::as_str)
        .chain(["after-deletions", "after-the-hog"])
    {
        assert_eq!(
            api.get(&format!("{MAPS}/{name}")).code,
            200,
            "{name} was acknowledged"
        );
    }
    server.kill();
}
