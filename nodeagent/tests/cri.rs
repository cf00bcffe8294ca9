//! The runtime back end against a real containerd: its own, started here in a network namespace of its own.
//!
//! Needs root, containerd and runc, and a static busybox to make an image from; fails if one is missing.

mod bed;

use std::path::Path;
use std::time::Duration;

use corten_nodeagent::runtime::cgroup::{Cgroups, Limits};
use corten_nodeagent::runtime::cri::CriRuntime;
use corten_nodeagent::runtime::import::PAUSE_IMAGE;
use corten_nodeagent::runtime::*;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use bed::{Bed, IMAGE, LIMIT, container, processes_with};

/// The first event that `pick` takes, within the limit.
async fn next<T>(
    events: &mut BoxStream<'static, RuntimeEvent>,
    what: &str,
    mut pick: impl FnMut(&RuntimeEvent) -> Option<T>,
) -> T {
    let found = async {
        while let Some(event) = events.next().await {
            if let Some(found) = pick(&event) {
                return found;
            }
        }
        unreachable!("the stream never ends")
    };
    tokio::time::timeout(LIMIT, found)
        .await
        .unwrap_or_else(|_| panic!("no event: {what}"))
}

fn exit_of(container: &Option<Container>) -> (i32, String) {
    match &container.as_ref().expect("the container is there").state {
        ContainerState::Exited(exit) => (exit.exit_code, exit.reason.clone()),
        other => panic!("not exited: {other:?}"),
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

#[test]
fn a_pod_lives_and_dies() {
    Bed::run("cri", async |bed, containerd| {
        let runtime = containerd.runtime();
        let pause = runtime
            .image_status(PAUSE_IMAGE)
            .await
            .unwrap()
            .expect("imported at start");
        assert!(pause.pinned);
        assert_eq!(runtime.version().await.unwrap().runtime_name, "containerd");

        // Image import, twice: the second changes nothing.
        let tar = bed.image_tar();
        for _ in 0..2 {
            assert_eq!(runtime.import_image(&tar).await.unwrap(), [IMAGE]);
        }
        let by_id = runtime
            .image_status(IMAGE)
            .await
            .unwrap()
            .expect("just imported")
            .id;
        assert!(runtime.image_status(&by_id).await.unwrap().is_some());
        assert!(
            runtime
                .image_status("docker.io/library/none:1")
                .await
                .unwrap()
                .is_none()
        );
        let error = runtime.import_image(Path::new("/etc/passwd")).await.unwrap_err();
        assert!(
            matches!(error, RuntimeError::Invalid(_) | RuntimeError::Failed(_)),
            "{error:?}"
        );

        let mut events = runtime.events();
        pod_network_and_limits(bed, &runtime, &mut events).await;
        host_network_and_restarts(bed, &runtime, &mut events).await;

        runtime.remove_image(IMAGE).await.unwrap();
        assert!(runtime.image_status(IMAGE).await.unwrap().is_none());
        containerd.stop().await;
    });
}

async fn pod_network_and_limits(
    bed: &Bed,
    runtime: &CriRuntime,
    events: &mut BoxStream<'static, RuntimeEvent>,
) {
    let cgroups = Cgroups::detect().unwrap();
    let sandbox = bed.sandbox("web", NamespaceMode::Pod);
    let limits = Limits {
        cpu_shares: Some(512),
        memory_bytes: Some(256 << 20),
        ..Limits::default()
    };
    cgroups.create(&sandbox.cgroup_parent, &limits).unwrap();
    let id = runtime.run_sandbox(&sandbox).await.unwrap();
    let again = runtime.run_sandbox(&sandbox).await.unwrap_err();
    assert!(matches!(again, RuntimeError::AlreadyExists(_)), "{again:?}");
    let seen = runtime.sandbox(&id).await.unwrap().unwrap();
    assert_eq!(
        (seen.state, seen.ips[0].to_string().as_str()),
        (SandboxState::Ready, "10.99.0.2")
    );
    assert_eq!(seen.pod, sandbox.pod);

    let mut spec = container(
        "app",
        0,
        &[
            "sh",
            "-c",
            "trap 'exit 7' TERM; echo out; while :; do sleep 0.1; done",
        ],
    );
    spec.security = ContainerSecurity {
        run_as_user: Some(1000),
        run_as_group: Some(1000),
        ..Default::default()
    };
    spec.resources = LinuxResources {
        memory_limit_bytes: 64 << 20,
        cpu_shares: 102,
        ..Default::default()
    };
    let app = runtime.create_container(&id, &sandbox, &spec).await.unwrap();
    runtime.start_container(&app).await.unwrap();
    next(events, "started", |e| {
        matches!(e, RuntimeEvent::ContainerStarted { container_id, .. } if *container_id == app).then_some(())
    })
    .await;

    let output = runtime
        .exec_sync(&app, &words(&["sh", "-c", "id -u; hostname; exit 3"]), LIMIT)
        .await
        .unwrap();
    assert_eq!(
        (
            output.exit_code,
            String::from_utf8(output.stdout).unwrap().as_str()
        ),
        (3, "1000\nweb\n")
    );
    let slow = runtime
        .exec_sync(&app, &words(&["sleep", "30"]), Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(slow, RuntimeError::DeadlineExceeded(_)), "{slow:?}");
    let missing = runtime
        .exec_sync(&app, &words(&["none"]), LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(missing, RuntimeError::Failed(_)), "{missing:?}");
    let stats = runtime.stats(&app).await.unwrap().unwrap();
    assert!(
        stats.memory_usage_bytes > 0 && stats.labels[labels::POD_UID] == sandbox.pod.uid,
        "{stats:?}"
    );
    runtime
        .update_resources(
            &app,
            &LinuxResources {
                memory_limit_bytes: 96 << 20,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let request = ExecRequest {
        container_id: app.clone(),
        cmd: words(&["cat"]),
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    assert!(
        runtime
            .exec_url(&request)
            .await
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );

    // TERM is handled in time: the code is the program's own.
    runtime
        .stop_container(&app, Duration::from_secs(10))
        .await
        .unwrap();
    let code = next(events, "exited", |e| match e {
        RuntimeEvent::ContainerExited {
            container_id,
            exit_code,
            ..
        } if *container_id == app => Some(*exit_code),
        _ => None,
    });
    assert_eq!(code.await, 7);
    assert_eq!(
        exit_of(&runtime.container(&app).await.unwrap()),
        (7, "Error".to_string())
    );
    let log = std::fs::read_to_string(sandbox.log_directory.join("app_0.log")).unwrap();
    assert!(log.contains(" stdout F out"), "{log}");

    // Too much memory.
    let mut greedy = container("greedy", 0, &["sh", "-c", "x=a; while :; do x=$x$x; done"]);
    greedy.resources.memory_limit_bytes = 16 << 20;
    let greedy = runtime.create_container(&id, &sandbox, &greedy).await.unwrap();
    runtime.start_container(&greedy).await.unwrap();
    let killed = next(events, "exited", |e| match e {
        RuntimeEvent::ContainerExited {
            container_id,
            exit_code,
            oom_killed,
            ..
        } if *container_id == greedy => Some((*exit_code, *oom_killed)),
        _ => None,
    });
    assert_eq!(killed.await, (137, true));

    // A sandbox whose own process dies.
    let pod = runtime.sandboxes_of(&sandbox.pod.uid).await.unwrap();
    assert_eq!(
        pod[0]
            .containers
            .iter()
            .map(|c| c.name.as_str())
            .collect::<Vec<_>>(),
        ["app", "greedy"]
    );
    let pause = processes_with("/pause").into_iter().find(|pid| {
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroup.contains(&sandbox.cgroup_parent)
    });
    kill(
        Pid::from_raw(pause.expect("the sandbox's process")),
        Signal::SIGKILL,
    )
    .unwrap();
    next(events, "sandbox exited", |e| {
        (*e == RuntimeEvent::SandboxExited {
            sandbox_id: id.clone(),
        })
        .then_some(())
    })
    .await;
    assert_eq!(
        runtime.sandbox(&id).await.unwrap().unwrap().state,
        SandboxState::NotReady
    );

    runtime.remove_sandbox(&id).await.unwrap();
    runtime.remove_sandbox(&id).await.unwrap();
    assert_eq!(runtime.sandbox(&id).await.unwrap(), None);
    assert_eq!(runtime.container(&app).await.unwrap(), None);
    runtime.stop_container(&app, LIMIT).await.unwrap();
    cgroups.remove(&sandbox.cgroup_parent).unwrap();
    assert!(!cgroups.exists(&sandbox.cgroup_parent));
}

/// Containers survive the death of containerd, and a later agent finds it again.
async fn host_network_and_restarts(
    bed: &Bed,
    runtime: &CriRuntime,
    events: &mut BoxStream<'static, RuntimeEvent>,
) {
    let sandbox = bed.sandbox("host", NamespaceMode::Node);
    let id = runtime.run_sandbox(&sandbox).await.unwrap();
    let app = runtime
        .create_container(&id, &sandbox, &container("app", 0, &["sleep", "1000"]))
        .await
        .unwrap();
    runtime.start_container(&app).await.unwrap();
    let before = runtime.list().await.unwrap();
    assert_eq!(
        (before.len(), before[0].host_network, before[0].ips.len()),
        (1, true, 0)
    );

    let old = processes_with(&bed.layout.config_file().display().to_string())[0];
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    next(events, "disconnected", |e| {
        (*e == RuntimeEvent::Disconnected).then_some(())
    })
    .await;
    next(events, "reconnected", |e| {
        (*e == RuntimeEvent::Reconnected).then_some(())
    })
    .await;
    assert_eq!(runtime.list().await.unwrap(), before);

    // A second agent on the same directory adopts the process.
    let adopted = bed.start().await;
    assert_ne!(adopted.pid(), old);
    assert_eq!(
        processes_with(&bed.layout.config_file().display().to_string()),
        [adopted.pid()]
    );
    drop(adopted);

    // Exits after the restart are still seen.
    runtime.stop_container(&app, Duration::ZERO).await.unwrap();
    let code = next(events, "exited", |e| match e {
        RuntimeEvent::ContainerExited {
            container_id,
            exit_code,
            ..
        } if *container_id == app => Some(*exit_code),
        _ => None,
    });
    assert_eq!(code.await, 137);
    runtime.remove_sandbox(&id).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), []);
}
