//! One real containerd in a network namespace of its own, for tests; everything is cleaned up whatever happens.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_nodeagent::runtime::cgroup::Cgroups;
use corten_nodeagent::runtime::containerd::{Containerd, Layout};
use corten_nodeagent::runtime::*;
use futures::FutureExt as _;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

pub const LIMIT: Duration = Duration::from_secs(20);
pub const IMAGE: &str = "docker.io/library/bed:1";

/// One containerd in one directory.
pub struct Bed {
    pub dir: PathBuf,
    pub cgroup: String,
    pub layout: Layout,
}

impl Bed {
    /// Runs `test` with a fresh containerd on this thread, in a network namespace of its own, then cleans up.
    pub fn run(name: &str, test: impl AsyncFnOnce(&Bed, Containerd)) {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        // Processes started by this thread stay in its namespace.
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        sh("ip link set lo up");
        let dir = PathBuf::from(format!("/tmp/corten-{name}-{}", std::process::id()));
        let cgroup = format!("/corten-{name}-{}", std::process::id());
        let layout = Layout {
            dir: dir.join("containerd"),
            cni_bin_dir: dir.join("cni/bin"),
            cni_conf_dir: dir.join("cni/conf"),
        };
        let bed = Bed { dir, cgroup, layout };
        bed.install_cni();
        let local = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = local.block_on(
            std::panic::AssertUnwindSafe(async {
                let containerd = bed.start().await;
                test(&bed, containerd).await;
            })
            .catch_unwind(),
        );
        drop(local);
        bed.clean();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    pub async fn start(&self) -> Containerd {
        Containerd::start(self.layout.clone(), CancellationToken::new())
            .await
            .unwrap()
    }

    /// The least plug-ins that containerd accepts: one fixed address, and loopback set up.
    fn install_cni(&self) {
        let (bin, conf) = (&self.layout.cni_bin_dir, &self.layout.cni_conf_dir);
        std::fs::create_dir_all(bin).unwrap();
        std::fs::create_dir_all(conf).unwrap();
        let address = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.99.0.2/24"}]}"#;
        // An address here, without an interface, would be taken for the Pod's.
        let lo = r#"{"cniVersion":"0.4.0"}"#;
        let up = "[ $CNI_COMMAND = ADD ] && nsenter --net=$CNI_NETNS ip link set lo up";
        for (name, script) in [
            ("fixed", format!("echo '{address}'")),
            ("loopback", format!("{up}; echo '{lo}'")),
        ] {
            std::fs::write(bin.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let list = r#"{"cniVersion":"0.4.0","name":"bed","plugins":[{"type":"fixed"}]}"#;
        std::fs::write(conf.join("10-bed.conflist"), list).unwrap();
    }

    /// A docker-save archive with busybox, made by hand.
    pub fn image_tar(&self) -> PathBuf {
        let root = self.dir.join("image");
        std::fs::create_dir_all(root.join("rootfs/bin")).unwrap();
        std::fs::create_dir_all(root.join("rootfs/tmp")).unwrap();
        std::fs::copy("/usr/bin/busybox", root.join("rootfs/bin/busybox"))
            .expect("busybox-static is installed");
        for applet in [
            "sh", "cat", "sleep", "true", "echo", "id", "hostname", "kill", "wc", "stty", "nc", "md5sum",
        ] {
            let _ = symlink("busybox", root.join("rootfs/bin").join(applet)); // there from an earlier call
        }
        sh(&format!("tar -C {0}/rootfs -cf {0}/layer.tar .", root.display()));
        let digest = sh(&format!("sha256sum < {}/layer.tar", root.display()));
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            &digest[..64]
        );
        std::fs::write(root.join("config.json"), config).unwrap();
        let manifest = r#"[{"Config":"config.json","RepoTags":["bed:1"],"Layers":["layer.tar"]}]"#;
        std::fs::write(root.join("manifest.json"), manifest).unwrap();
        let tar = self.dir.join("bed.tar");
        sh(&format!(
            "tar -C {} -cf {} manifest.json config.json layer.tar",
            root.display(),
            tar.display()
        ));
        tar
    }

    pub fn sandbox(&self, name: &str, network: NamespaceMode) -> SandboxSpec {
        let logs = self.dir.join("logs").join(name);
        std::fs::create_dir_all(&logs).unwrap();
        let pod = PodRef {
            uid: format!("uid-{name}"),
            name: name.to_string(),
            namespace: "default".to_string(),
        };
        SandboxSpec {
            cgroup_parent: format!("{}/pod{}", self.cgroup, pod.uid),
            pod,
            hostname: name.to_string(),
            log_directory: logs,
            namespaces: Namespaces {
                network,
                ..Namespaces::default()
            },
            ..SandboxSpec::default()
        }
    }

    fn clean(&self) {
        // Shims carry the socket's path on their command line; their children end with the cgroup.
        let socket = self.layout.socket().display().to_string();
        for pid in processes_with(&self.layout.config_file().display().to_string()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if let Ok(cgroups) = Cgroups::detect() {
            for _ in 0..3 {
                processes_with(&socket).into_iter().for_each(|pid| {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                });
                let _ = cgroups.remove(&self.cgroup);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = mounts
            .lines()
            .filter_map(|l| l.split(' ').nth(4))
            .filter(|m| Path::new(m).starts_with(&self.dir));
        for mount in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

pub fn sh(command: &str) -> String {
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(command)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

pub fn processes_with(text: &str) -> Vec<i32> {
    let own = std::process::id() as i32;
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != own);
    let named = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(named).collect()
}

pub fn container(name: &str, attempt: u32, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        name: name.to_string(),
        attempt,
        image: IMAGE.to_string(),
        user_image: "bed:1".to_string(),
        command: command.iter().map(|c| c.to_string()).collect(),
        log_path: format!("{name}_{attempt}.log"),
        ..ContainerSpec::default()
    }
}
