//! Tests of the Pod machine in virtual time against a small world that does what it is asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::action::{Action, After, Event, Failure, ImageReady, Memory, Observed, Outcome, Verdict};
use super::machine::PodMachine;
use super::status::NodeFacts;
use crate::probe::{ProbeKind, ProbeResult};
use crate::runtime::{Container, ContainerState, Exit, PodRef, Sandbox, SandboxState};

/// Runs a machine: actions are carried out at once, in order, and their ends fed back.
struct World {
    now: Timestamp,
    machine: PodMachine,
    sandboxes: Vec<Sandbox>,
    reading: u64,
    ids: u32,
    log: Vec<String>,
    wake: Option<Timestamp>,
    /// Containers that end by themselves: seconds of life and exit code.
    lives: BTreeMap<String, (i64, i32)>,
    /// Action words that fail, with reason and message.
    failing: BTreeMap<String, (String, String)>,
    probes: BTreeMap<ProbeKind, ProbeResult>,
    events: Vec<String>,
    over: bool,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).expect("in range")
}

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["image"] = json!("web:1");
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
        "spec": spec,
    }))
    .expect("a Pod")
}

impl World {
    fn new(spec: Value) -> World {
        let mut world = World {
            now: at(0),
            machine: PodMachine::new(Arc::new(pod(spec)), Memory::default()),
            sandboxes: Vec::new(),
            reading: 0,
            ids: 0,
            log: Vec::new(),
            wake: None,
            lives: BTreeMap::new(),
            failing: BTreeMap::new(),
            probes: BTreeMap::new(),
            events: Vec::new(),
            over: false,
        };
        world.machine.mark_admitted();
        world.feed(Event::Woke);
        world
    }

    fn lives(mut self, name: &str, seconds: i64, code: i32) -> World {
        self.lives.insert(name.to_owned(), (seconds, code));
        self
    }

    fn observed(&mut self) -> Observed {
        self.reading += 1;
        let mut sandboxes = self.sandboxes.clone();
        sandboxes.sort_by_key(|sandbox| std::cmp::Reverse(sandbox.attempt));
        Observed {
            reading: self.reading,
            sandboxes,
            ..Observed::default()
        }
    }

    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            self.wake = None;
            for action in self.machine.step(self.now, event) {
                match action {
                    Action::WakeAt(at) => self.wake = Some(at),
                    Action::Record(event) => {
                        self.events.push(format!("{} {}", event.reason, event.message));
                    }
                    Action::Remember(_) => {}
                    Action::Forget => self.over = true,
                    action => {
                        let (outcome, reads) = self.perform(&action);
                        let after = if reads {
                            After::Read(self.observed())
                        } else {
                            After::NotNeeded
                        };
                        events.push_back(Event::Finished {
                            action,
                            outcome,
                            after,
                        });
                    }
                }
            }
        }
    }

    fn perform(&mut self, action: &Action) -> (Outcome, bool) {
        let (word, reads) = match action {
            Action::Observe => (String::new(), true),
            Action::StartSandbox { attempt } => (format!("sandbox {attempt}"), true),
            Action::StopSandbox { id } => (format!("stop-sandbox {id}"), true),
            Action::RemoveSandbox { id } => (format!("remove-sandbox {id}"), true),
            Action::MountVolumes => ("mount".into(), false),
            Action::RefreshVolumes => ("refresh".into(), false),
            Action::EnsureImage { container } => (format!("image {container}"), false),
            Action::StartContainer {
                container, attempt, ..
            } => (format!("start {container}/{attempt}"), true),
            Action::PostStart { container, .. } => (format!("hook {container}"), false),
            Action::Drain => ("drain".into(), false),
            Action::StopContainer { container, grace, .. } => {
                (format!("stop {container} {}", grace.as_secs()), true)
            }
            Action::RemoveContainer { id } => (format!("remove {id}"), true),
            Action::Probe { kind, .. } => {
                let result = self.probes.get(kind).cloned().unwrap_or(ProbeResult::Success);
                return (Outcome::Probed(result), false);
            }
            Action::TearDown => ("tear-down".into(), false),
            Action::DeleteObject => ("delete-object".into(), false),
            Action::RemoveData => ("remove-data".into(), false),
            other => unreachable!("{other:?} has no end"),
        };
        if !word.is_empty() {
            self.log.push(word.clone());
        }
        if let Some((reason, message)) = self.failing.get(word.split(' ').next().unwrap_or_default()) {
            return (Outcome::Failed(Failure::new(reason, message.as_str())), reads);
        }
        match action {
            Action::StartSandbox { attempt } => self.add_sandbox(*attempt),
            Action::StopSandbox { id } => self.each_container(|sandbox, _| sandbox == *id, 137),
            Action::RemoveSandbox { id } => self.sandboxes.retain(|sandbox| sandbox.id != *id),
            Action::StartContainer {
                container,
                attempt,
                sandbox_id,
                ..
            } => {
                self.add_container(container, *attempt, sandbox_id);
            }
            Action::StopContainer { id, .. } => {
                let id = id.clone();
                self.each_container(|_, container| container == id, 143);
            }
            Action::RemoveContainer { id } => {
                for sandbox in &mut self.sandboxes {
                    sandbox.containers.retain(|container| container.id != *id);
                }
            }
            _ => {}
        }
        if let Action::StopSandbox { id } = action {
            for sandbox in self.sandboxes.iter_mut().filter(|sandbox| sandbox.id == *id) {
                sandbox.state = SandboxState::NotReady;
            }
        }
        match action {
            Action::EnsureImage { .. } => (
                Outcome::Image(ImageReady {
                    id: "i".into(),
                    ..ImageReady::default()
                }),
                reads,
            ),
            _ => (Outcome::Done, reads),
        }
    }

    fn add_sandbox(&mut self, attempt: u32) {
        self.sandboxes.push(Sandbox {
            id: format!("s{attempt}"),
            pod: PodRef {
                uid: "u".into(),
                name: "p".into(),
                namespace: "ns".into(),
            },
            attempt,
            state: SandboxState::Ready,
            created_at: self.now,
            ips: vec![[10, 244, 0, 2].into()],
            host_network: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers: Vec::new(),
        });
    }

    fn add_container(&mut self, name: &str, attempt: u32, sandbox_id: &str) {
        self.ids += 1;
        let twice = self
            .machine
            .observed()
            .into_iter()
            .flat_map(Observed::running)
            .any(|found| found.name == name);
        assert!(!twice, "{name} runs twice");
        let container = Container {
            id: format!("{name}-{attempt}"),
            sandbox_id: sandbox_id.to_owned(),
            name: name.to_owned(),
            attempt,
            state: ContainerState::Running { started_at: self.now },
            created_at: self.now,
            image: "web:1".into(),
            image_ref: "web@sha256:1".into(),
            log_path: "/log".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        let sandbox = self
            .sandboxes
            .iter_mut()
            .find(|sandbox| sandbox.id == sandbox_id)
            .expect("its sandbox");
        sandbox.containers.push(container);
    }

    fn each_container(&mut self, which: impl Fn(&str, &str) -> bool, code: i32) {
        for sandbox in &mut self.sandboxes {
            for container in &mut sandbox.containers {
                if let ContainerState::Running { started_at } = container.state
                    && which(&sandbox.id, &container.id)
                {
                    container.state = ContainerState::Exited(Exit {
                        exit_code: code,
                        started_at: Some(started_at),
                        finished_at: self.now,
                        reason: if code == 0 {
                            "Completed".into()
                        } else {
                            "Error".into()
                        },
                        message: String::new(),
                    });
                }
            }
        }
    }

    /// Lets time pass: timers go off and containers end when they are due.
    fn run(mut self, seconds: i64) -> World {
        let end = self.now + Duration::from_secs(seconds as u64);
        for _ in 0..100_000 {
            let next_end = self
                .sandboxes
                .iter()
                .flat_map(|sandbox| &sandbox.containers)
                .filter_map(|container| match container.state {
                    ContainerState::Running { started_at } => {
                        let (life, code) = self.lives.get(&container.name)?;
                        Some((
                            started_at + Duration::from_secs(*life as u64),
                            container.id.clone(),
                            *code,
                        ))
                    }
                    _ => None,
                })
                .min();
            let wake = self.wake;
            match (next_end, wake) {
                (Some((at, id, code)), wake) if at <= end && wake.is_none_or(|wake| at <= wake) => {
                    self.now = at;
                    self.each_container(|_, container| container == id, code);
                    let observed = self.observed();
                    self.feed(Event::Observed(observed));
                }
                (_, Some(wake)) if wake <= end => {
                    self.now = self.now.max(wake);
                    self.feed(Event::Woke);
                }
                _ => {
                    self.now = end;
                    return self;
                }
            }
        }
        panic!("the machine never comes to rest");
    }

    fn change(mut self, change: impl FnOnce(&mut Pod)) -> World {
        let mut pod = (**self.machine.pod()).clone();
        change(&mut pod);
        self.feed(Event::Desired(Arc::new(pod)));
        self
    }

    fn delete(self, grace: i64) -> World {
        let now = self.now;
        self.change(|pod| {
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
            pod.metadata.deletion_grace_period_seconds = Some(grace);
        })
    }

    fn send(mut self, event: Event) -> World {
        self.feed(event);
        self
    }

    /// What was done since the last check, in order.
    #[track_caller]
    fn did(mut self, wanted: &[&str]) -> World {
        assert_eq!(std::mem::take(&mut self.log), wanted);
        self
    }

    /// Phase, then per container `name:state(reason)` with `!` for not ready and the restart count.
    #[track_caller]
    fn shows(self, wanted: &str) -> World {
        let facts = NodeFacts {
            host_ips: vec![[192, 0, 2, 1].into()],
            runtime_name: "containerd".into(),
        };
        let status = self.machine.status(&facts, self.now).expect("observed");
        let mut text = status.phase.clone().unwrap_or_default();
        for entry in status
            .init_container_statuses
            .iter()
            .chain(&status.container_statuses)
            .chain(&status.ephemeral_container_statuses)
            .flatten()
        {
            let state = entry.state.clone().unwrap_or_default();
            let shown = if state.running.is_some() {
                "running".to_owned()
            } else if let Some(end) = state.terminated {
                format!("ended({})", end.reason.unwrap_or_default())
            } else {
                format!(
                    "waiting({})",
                    state
                        .waiting
                        .and_then(|waiting| waiting.reason)
                        .unwrap_or_default()
                )
            };
            let unready = if entry.ready { "" } else { "!" };
            text.push_str(&format!(
                " {}:{shown}{unready}{}",
                entry.name, entry.restart_count
            ));
        }
        assert_eq!(text, wanted);
        self
    }

    #[track_caller]
    fn told(self, wanted: &str) -> World {
        assert!(
            self.events.iter().any(|event| event.contains(wanted)),
            "{wanted:?} not in {:#?}",
            self.events
        );
        self
    }
}

fn one() -> Value {
    json!({"containers": [{"name": "c"}]})
}

#[test]
fn a_pod_starts_with_nothing_waiting_for_anything_else() {
    World::new(one())
        .did(&["mount", "image c", "sandbox 0", "start c/0"])
        .shows("Running c:running0")
        .run(3600)
        .did(&[]);
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}, {"name": "j"}],
        "containers": [{"name": "c"}]});
    World::new(spec)
        .lives("i", 2, 0)
        .lives("j", 2, 0)
        .shows("Pending i:running!0 s:waiting(PodInitializing)!0 j:waiting(PodInitializing)!0 c:waiting(PodInitializing)!0")
        .run(10)
        .did(&[
            "mount", "image i", "sandbox 0", "start i/0", "image s", "start s/0", "image j", "start j/0", "image c",
            "start c/0",
        ])
        .shows("Running i:ended(Completed)0 s:running0 j:ended(Completed)0 c:running0");
}

#[test]
fn a_crashing_container_backs_off() {
    World::new(one())
        .lives("c", 1, 1)
        .run(2)
        .did(&[
            "mount",
            "image c",
            "sandbox 0",
            "start c/0",
            "image c",
            "start c/1",
        ])
        .shows("Running c:waiting(CrashLoopBackOff)!1")
        .told("BackOff Back-off restarting failed container c in pod p_ns(u)")
        .run(9)
        .did(&[])
        .run(1)
        .did(&["image c", "start c/2", "remove c-0"])
        .run(20)
        .did(&[]);
}

#[test]
fn restart_policy_never_and_on_failure() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "c"}]});
    World::new(spec("Never"))
        .lives("c", 5, 1)
        .run(60)
        .did(&[
            "mount",
            "image c",
            "sandbox 0",
            "start c/0",
            "stop-sandbox s0",
            "tear-down",
        ])
        .shows("Failed c:ended(Error)!0");
    World::new(spec("OnFailure"))
        .lives("c", 5, 0)
        .run(60)
        .shows("Succeeded c:ended(Completed)!0");
    let init =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
    World::new(init)
        .lives("i", 1, 3)
        .run(60)
        .shows("Failed i:ended(Error)!0 c:waiting(PodInitializing)!0");
}

#[test]
fn deletion_stops_and_cleans_up_in_order() {
    let world = World::new(one())
        .did(&["mount", "image c", "sandbox 0", "start c/0"])
        .delete(7)
        .did(&[
            "drain",
            "stop c 7",
            "stop-sandbox s0",
            "tear-down",
            "delete-object",
        ])
        .shows("Failed c:ended(Error)!0")
        .told("Killing Stopping container c")
        .send(Event::Gone)
        .did(&["remove-sandbox s0", "remove-data"]);
    assert!(world.over);
}

#[test]
fn forced_deletion_uses_the_pods_own_grace_and_sidecars_go_last() {
    let spec = json!({"terminationGracePeriodSeconds": 3, "containers": [{"name": "c"}], "initContainers": [
        {"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"}]});
    let mut world = World::new(spec);
    world.log.clear();
    let world = world.send(Event::Gone);
    let wanted = [
        "stop c 3",
        "stop t 3",
        "stop s 3",
        "stop-sandbox s0",
        "tear-down",
        "remove-sandbox s0",
        "remove-data",
    ];
    assert!(world.did(&wanted).over);
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let mut world = World::new(one());
    world.log.clear();
    world.sandboxes[0].state = SandboxState::NotReady;
    let observed = world.observed();
    world
        .send(Event::Observed(observed))
        .did(&["stop-sandbox s0", "image c", "sandbox 1", "start c/1"])
        .told("SandboxChanged Pod sandbox changed, it will be killed and re-created.")
        .shows("Running c:running1");
}

#[test]
fn an_old_reading_is_ignored() {
    let mut world = World::new(one());
    world.log.clear();
    let stale = Observed {
        reading: 1,
        ..Observed::default()
    };
    world
        .send(Event::Observed(stale))
        .did(&[])
        .shows("Running c:running0");
}

#[test]
fn nothing_starts_on_a_failed_reading() {
    let mut machine = PodMachine::new(Arc::new(pod(one())), Memory::default());
    let actions = machine.step(at(0), Event::Woke);
    assert_eq!(actions, [Action::Observe]);
    let failed = Outcome::Failed(Failure::new("x", "y"));
    let event = Event::Finished {
        action: Action::Observe,
        outcome: failed,
        after: After::Unread { reading: 1 },
    };
    let actions = machine.step(at(0), event);
    assert_eq!(actions, [Action::WakeAt(at(0) + Duration::from_millis(500))]);
    let read = |reading| {
        Event::Observed(Observed {
            reading,
            ..Observed::default()
        })
    };
    assert!(
        machine
            .step(at(0), read(1))
            .iter()
            .all(|action| !matches!(action, Action::StartSandbox { .. }))
    );
    assert!(
        machine
            .step(at(0), read(2))
            .contains(&Action::StartSandbox { attempt: 0 })
    );
}

#[test]
fn failed_pulls_turn_into_back_off_and_a_loaded_image_ends_the_wait() {
    let mut world = World::new(json!({"containers": []}));
    world
        .failing
        .insert("image".into(), ("ErrImagePull".into(), "no such host".into()));
    let world = world
        .change(|changed| *changed = pod(one()))
        .shows("Pending c:waiting(ErrImagePull)!0")
        .run(3)
        .shows("Pending c:waiting(ImagePullBackOff)!0")
        .told("BackOff Back-off pulling image \"web:1\"")
        .run(10);
    let tries = world.log.iter().filter(|word| *word == "image c").count();
    assert_eq!(tries, 2);
    let mut world = World::new(json!({"containers": []}));
    world
        .failing
        .insert("image".into(), ("ErrImageNeverPull".into(), "not present".into()));
    let mut world = world
        .change(|changed| *changed = pod(one()))
        .shows("Pending c:waiting(ErrImageNeverPull)!0");
    world.failing.clear();
    world.send(Event::ImagesChanged).shows("Running c:running0");
}

#[test]
fn a_missing_config_map_holds_the_container_until_it_comes() {
    let mut world = World::new(json!({"containers": []}));
    let wanted = (
        "CreateContainerConfigError".to_owned(),
        "configmap \"m\" not found".to_owned(),
    );
    world.failing.insert("start".into(), wanted);
    let mut world = world
        .change(|changed| *changed = pod(one()))
        .run(30)
        .shows("Pending c:waiting(CreateContainerConfigError)!0");
    world.failing.clear();
    world.send(Event::ResourcesChanged).shows("Running c:running0");
}

#[test]
fn what_the_downward_api_shows_is_written_anew_when_it_changes() {
    let mut world = World::new(one()).shows("Running c:running0");
    let relabelled = |pod: &mut Pod| pod.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    world.log.clear();
    let world = world.change(relabelled).run(1).did(&["refresh"]);
    world.change(relabelled).run(1).did(&[]);
}

#[test]
fn probes_decide_readiness_and_restarts() {
    let probe = |threshold: i32| json!({"exec": {"command": ["x"]}, "periodSeconds": 5, "failureThreshold": threshold});
    let spec = json!({"containers": [{"name": "c", "readinessProbe": probe(1), "livenessProbe": probe(2)}]});
    let mut world = World::new(spec).shows("Running c:running0");
    world.log.clear();
    world
        .probes
        .insert(ProbeKind::Readiness, ProbeResult::Failure("no".into()));
    let mut world = world
        .run(6)
        .shows("Running c:running!0")
        .told("Unhealthy Readiness probe failed: no");
    world
        .probes
        .insert(ProbeKind::Liveness, ProbeResult::Failure("dead".into()));
    world
        .run(11)
        .told("Killing Container c failed liveness probe, will be restarted")
        .did(&["stop c 30", "image c", "start c/1"]);
}

#[test]
fn a_startup_probe_holds_back_the_others() {
    let probe = json!({"exec": {"command": ["x"]}, "periodSeconds": 1, "failureThreshold": 3});
    let spec = json!({"containers": [{"name": "c", "startupProbe": probe, "readinessProbe": probe}]});
    let mut world = World::new(json!({"containers": []}));
    world
        .probes
        .insert(ProbeKind::Startup, ProbeResult::Failure("not yet".into()));
    let mut world = world
        .change(|changed| *changed = pod(spec))
        .run(1)
        .shows("Running c:running!0");
    world.probes.clear();
    world.run(2).shows("Running c:running0");
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let spec = json!({"containers": [
        {"name": "c", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}, {"name": "d"}]});
    World::new(spec.clone()).did(&[
        "mount",
        "image c",
        "sandbox 0",
        "start c/0",
        "hook c",
        "image d",
        "start d/0",
    ]);
    let mut world = World::new(json!({"containers": []}));
    world.failing.insert(
        "hook".into(),
        ("FailedPostStartHook".into(), "PostStartHook failed".into()),
    );
    world
        .change(|changed| *changed = pod(spec))
        .told("FailedPostStartHook PostStartHook failed")
        .told("Killing FailedPostStartHook");
}

#[test]
fn a_restarted_agent_adopts_what_runs() {
    let before = World::new(one());
    let mut after = World::new(json!({"containers": []}));
    after.sandboxes = before.sandboxes.clone();
    after.machine = PodMachine::new(Arc::new(pod(one())), before.machine.memory().clone());
    after.log.clear();
    after
        .send(Event::Woke)
        .run(600)
        .did(&["mount"])
        .shows("Running c:running0");
}

#[test]
fn a_changed_image_restarts_the_container() {
    let mut world = World::new(one());
    world.log.clear();
    let hash = super::containers::HASH_ANNOTATION.to_owned();
    world.sandboxes[0].containers[0]
        .annotations
        .insert(hash, "old".into());
    let observed = world.observed();
    world
        .send(Event::Observed(observed))
        .told("Killing Container c definition changed, will be restarted")
        .did(&["stop c 30", "image c", "start c/1"]);
}

fn with_ephemeral(pod: &mut Pod) {
    let added = json!([{"name": "e", "image": "tools:1", "targetContainerName": "c"}]);
    pod.spec.as_mut().expect("a spec").ephemeral_containers =
        Some(serde_json::from_value(added).expect("ephemeral containers"));
}

#[test]
fn an_ephemeral_container_starts_once_and_decides_nothing() {
    World::new(one())
        .did(&["mount", "image c", "sandbox 0", "start c/0"])
        .lives("e", 5, 3)
        .change(with_ephemeral)
        .did(&["image e", "start e/0"])
        .shows("Running c:running0 e:running!0")
        .run(600)
        .did(&[])
        .shows("Running c:running0 e:ended(Error)!0");
}

#[test]
fn an_ephemeral_container_looks_into_a_pod_whose_init_container_does_not_end() {
    World::new(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}))
        .did(&["mount", "image i", "sandbox 0", "start i/0"])
        .change(with_ephemeral)
        .did(&["image e", "start e/0"])
        .delete(5)
        .run(1)
        .did(&[
            "drain",
            "stop e 5",
            "stop i 5",
            "stop-sandbox s0",
            "tear-down",
            "delete-object",
        ]);
}

#[test]
fn rejected_and_overdue_pods_fail() {
    let verdict = Verdict {
        reason: "OutOfcpu".into(),
        message: "no".into(),
    };
    let mut world = World::new(json!({"containers": []}));
    world.log.clear();
    world
        .send(Event::Rejected(verdict))
        .change(|changed| *changed = pod(one()))
        .did(&["tear-down"])
        .shows("Failed");
    let spec = json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c"}]});
    World::new(spec)
        .change(|pod| {
            let started = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0));
            pod.status.get_or_insert_default().start_time = Some(started);
        })
        .run(61)
        .told("DeadlineExceeded")
        .shows("Failed c:ended(Error)!0");
}

#[test]
fn the_same_events_give_the_same_actions() {
    let log = || World::new(one()).lives("c", 3, 1).run(1_000).log;
    assert_eq!(log(), log());
}
