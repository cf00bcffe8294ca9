//! The rules of the Pod machine: what the difference between desired and observed asks for.
//!
//! Every function here only reads the machine and writes a list; [`machine`](super::machine) then drops what is under
//! way or backing off.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use super::action::{Action, Key, Observed, PodEvent, Verdict};
use super::backoff::Backoff;
use super::containers::{self, HASH_ANNOTATION, Kind, find, init, is_running, mains, spec};
use super::machine::{Due, PodMachine, STOP_MINIMUM, Volumes, Waiting};
use super::restart::should_restart;
use crate::events;
use crate::probe::ProbeKind;
use crate::runtime::{self, ContainerState, SandboxState};

/// Ended containers kept per name besides the newest one, for `logs --previous` and `lastState`.
const DEAD_KEPT: usize = 1;
/// Exit code reported for a container that the runtime no longer knows.
pub(super) const LOST_EXIT_CODE: i32 = 137;

/// What to do about one container.
enum Step {
    /// Nothing now, and later ones may go on.
    Done,
    /// Nothing now, and later init containers must wait.
    Wait,
    Start {
        attempt: u32,
    },
}

impl PodMachine {
    pub(super) fn due(&mut self, now: Timestamp, out: &mut Vec<Action>) -> Due {
        let mut due = Due::default();
        if self.forgotten {
            return due;
        }
        if self.is_blind() {
            due.push(Action::Observe);
            return due;
        }
        self.judge_deadline(now, &mut due);
        let terminating = self.gone || self.pod.metadata.deletion_timestamp.is_some();
        if terminating || self.is_finished() {
            self.stop_due(terminating, now, &mut due, out);
        } else {
            self.run_due(now, &mut due, out);
        }
        self.probes_due(now, terminating, &mut due);
        due
    }

    /// `activeDeadlineSeconds` counts from the Pod's start time.
    fn judge_deadline(&mut self, now: Timestamp, due: &mut Due) {
        let started = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.start_time.as_ref());
        let (Some(seconds), Some(started)) = (spec(&self.pod).active_deadline_seconds, started) else {
            return;
        };
        let deadline = started.0 + Duration::from_secs(seconds.max(0) as u64);
        if self.memory.verdict.is_some() || containers::is_terminal_phase(&self.pod) {
            return;
        }
        if now < deadline {
            return due.wake_at(deadline);
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        due.push(Action::Record(PodEvent::normal(
            events::DEADLINE_EXCEEDED,
            message.clone(),
        )));
        self.memory.verdict = Some(Verdict {
            reason: events::DEADLINE_EXCEEDED.to_owned(),
            message,
        });
    }

    /// The Pod has run its course: no container of it will start again.
    pub fn is_finished(&self) -> bool {
        if self.memory.verdict.is_some() || containers::is_terminal_phase(&self.pod) {
            return true;
        }
        let Some(observed) = &self.observed else {
            return false;
        };
        let failed_init = init(&self.pod).any(|(container, kind)| {
            self.ended(observed, container).is_some_and(|code| {
                kind == Kind::Init && code != 0 && !should_restart(&self.pod, container, kind, code)
            })
        });
        let mut mains = mains(&self.pod).peekable();
        let all_done = mains.peek().is_some()
            && mains.all(|container| {
                self.ended(observed, container)
                    .is_some_and(|code| !should_restart(&self.pod, container, Kind::Main, code))
            });
        failed_init || all_done
    }

    /// Exit code of the newest attempt if it has ended. One that the API knows and the runtime has lost has ended too.
    fn ended(&self, observed: &Observed, container: &Container) -> Option<i32> {
        match observed.newest(&container.name) {
            Some(found) => match &found.state {
                ContainerState::Exited(exit) => Some(exit.exit_code),
                ContainerState::Unknown => Some(LOST_EXIT_CODE),
                ContainerState::Created | ContainerState::Running { .. } => None,
            },
            None => {
                let entry = containers::reported(&self.pod, &container.name)?;
                entry.container_id.as_ref()?;
                let code = entry
                    .state
                    .as_ref()
                    .and_then(|state| state.terminated.as_ref())
                    .map(|end| end.exit_code);
                Some(code.unwrap_or(LOST_EXIT_CODE))
            }
        }
    }

    fn run_due(&mut self, now: Timestamp, due: &mut Due, out: &mut Vec<Action>) {
        let observed = self.observed.take().expect("checked by due");
        let sandbox = observed.ready();
        for other in &observed.sandboxes {
            let surplus =
                other.state == SandboxState::Ready && sandbox.is_some_and(|sandbox| sandbox.id != other.id);
            // A sandbox whose own process died leaves containers behind without a network.
            let broken = other.state == SandboxState::NotReady && other.containers.iter().any(is_running);
            if broken && !self.in_flight.contains_key(&Key::StopSandbox(other.id.clone())) {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                out.push(Action::Record(PodEvent::normal(events::SANDBOX_CHANGED, message)));
            }
            if surplus || broken {
                due.push(Action::StopSandbox { id: other.id.clone() });
            }
        }
        if self.volumes == Volumes::Absent {
            due.push(Action::MountVolumes);
        }
        if self.volumes == Volumes::Stale {
            due.push(Action::RefreshVolumes);
        }
        let starts = self.containers_due(&observed, now, due, out);
        let leftovers = observed
            .running()
            .any(|container| sandbox.is_none_or(|sandbox| sandbox.id != container.sandbox_id));
        match sandbox {
            None if !starts.is_empty() && !leftovers => {
                due.push(Action::StartSandbox {
                    attempt: self.memory.sandbox_attempt,
                });
            }
            Some(sandbox) if !leftovers => {
                for (name, attempt) in &starts {
                    let ready =
                        self.volumes != Volumes::Absent && !self.in_flight.contains_key(&Key::Volumes);
                    if let (true, Some(image)) = (ready, self.images.get(name)) {
                        due.push(Action::StartContainer {
                            container: name.clone(),
                            attempt: *attempt,
                            sandbox_id: sandbox.id.clone(),
                            image: image.clone(),
                        });
                    }
                }
            }
            _ => {}
        }
        self.sweep(&observed, due);
        self.observed = Some(observed);
    }

    /// The containers that should start now, with their attempt. Asks for their images and for kills on the way.
    fn containers_due(
        &mut self,
        observed: &Observed,
        now: Timestamp,
        due: &mut Due,
        out: &mut Vec<Action>,
    ) -> Vec<(String, u32)> {
        let pod = self.pod.clone();
        let here = |name: &str| {
            observed
                .ready()
                .is_some_and(|sandbox| sandbox.containers.iter().any(|found| found.name == name))
        };
        // Once a main container was made in this sandbox, init containers are done for good; sidecars are kept alive.
        let initialized = mains(&pod).any(|container| here(&container.name));
        let mut starts = Vec::new();
        // Before init containers: they are there to find out why those do not end.
        for container in containers::ephemeral(&pod) {
            if let Step::Start { attempt } =
                self.step_of(observed, &container, Kind::Ephemeral, now, due, out)
            {
                starts.push((container.name, attempt));
            }
        }
        for (container, kind) in init(&pod) {
            if initialized && kind == Kind::Init {
                continue;
            }
            match self.step_of(observed, container, kind, now, due, out) {
                Step::Done => {}
                Step::Wait if initialized => {}
                Step::Wait => return self.with_images(starts, due),
                Step::Start { attempt } => {
                    starts.push((container.name.clone(), attempt));
                    if !initialized {
                        return self.with_images(starts, due);
                    }
                }
            }
        }
        for container in mains(&pod) {
            if let Step::Start { attempt } = self.step_of(observed, container, Kind::Main, now, due, out) {
                starts.push((container.name.clone(), attempt));
            }
            // A postStart hook holds back the containers after it, as in Kubernetes.
            let hooked = container
                .lifecycle
                .as_ref()
                .is_some_and(|lifecycle| lifecycle.post_start.is_some());
            let newest = observed.newest(&container.name);
            let passed =
                newest.is_some_and(|newest| !is_running(newest) || !self.hook_pending.contains(&newest.id));
            if hooked && !passed {
                break;
            }
        }
        self.with_images(starts, due)
    }

    fn with_images(&self, starts: Vec<(String, u32)>, due: &mut Due) -> Vec<(String, u32)> {
        for (name, _) in &starts {
            let starting = self.in_flight.contains_key(&Key::Start(name.clone()));
            if !starting && !self.images.contains_key(name) {
                due.push(Action::EnsureImage {
                    container: name.clone(),
                });
            }
        }
        starts
    }

    fn step_of(
        &mut self,
        observed: &Observed,
        container: &Container,
        kind: Kind,
        now: Timestamp,
        due: &mut Due,
        out: &mut Vec<Action>,
    ) -> Step {
        let name = &container.name;
        let current = observed.ready().map(|sandbox| sandbox.id.as_str());
        let Some(newest) = observed.newest(name) else {
            let lost = self.ended(observed, container);
            if lost.is_some_and(|code| !should_restart(&self.pod, container, kind, code)) {
                return Step::Done;
            }
            return Step::Start {
                attempt: self.next_attempt(name, lost.is_some()),
            };
        };
        let elsewhere = current != Some(newest.sandbox_id.as_str());
        match &newest.state {
            ContainerState::Running { .. } if elsewhere => Step::Wait,
            ContainerState::Running { .. } => {
                let outdated = newest
                    .annotations
                    .get(HASH_ANNOTATION)
                    .is_some_and(|hash| *hash != containers::hash(container));
                if outdated {
                    let message = format!("Container {name} definition changed, will be restarted");
                    self.condemned.entry(newest.id.clone()).or_insert((message, None));
                }
                if let Some((message, grace)) = self.condemned.get(&newest.id).cloned() {
                    let grace = grace.unwrap_or(self.grace());
                    self.stop(newest, grace, &message, due, out);
                    return Step::Wait;
                }
                if self.hook_pending.contains(&newest.id) {
                    due.push(Action::PostStart {
                        container: name.clone(),
                        id: newest.id.clone(),
                    });
                    return Step::Wait;
                }
                match kind {
                    Kind::Init => Step::Wait,
                    Kind::Sidecar if !self.is_started(name, &newest.id) => Step::Wait,
                    Kind::Sidecar | Kind::Main | Kind::Ephemeral => Step::Done,
                }
            }
            // Made by an agent that was killed before it could start it.
            ContainerState::Created => {
                if !self.in_flight.contains_key(&Key::Start(name.clone())) {
                    due.push(Action::RemoveContainer {
                        id: newest.id.clone(),
                    });
                }
                Step::Wait
            }
            ContainerState::Exited(_) | ContainerState::Unknown => {
                let (code, ended) = match &newest.state {
                    ContainerState::Exited(exit) => (exit.exit_code, exit.finished_at),
                    _ => (LOST_EXIT_CODE, newest.created_at),
                };
                // A new sandbox runs its init containers again, whatever they said in the old one.
                let again = kind == Kind::Init && elsewhere;
                if !again && !should_restart(&self.pod, container, kind, code) {
                    return Step::Done;
                }
                if again && code == 0 {
                    return Step::Start {
                        attempt: self.next_attempt(name, true),
                    };
                }
                self.restart(newest, ended, now, due, out)
            }
        }
    }

    /// Restarts a container that ended at `ended`, after its back-off.
    fn restart(
        &mut self,
        newest: &runtime::Container,
        ended: Timestamp,
        now: Timestamp,
        due: &mut Due,
        out: &mut Vec<Action>,
    ) -> Step {
        let name = newest.name.as_str();
        if self.in_flight.contains_key(&Key::Start(name.to_owned())) {
            return Step::Wait;
        }
        let entry = self.memory.restarts.get(name).copied();
        if self.memory.served.get(name) != Some(&newest.id) {
            if let Some(until) = Backoff::until(entry, ended, now) {
                due.wake_at(until);
                self.note_crash_loop(name, entry.map_or(Duration::ZERO, |entry| entry.delay), out);
                return Step::Wait;
            }
            self.memory
                .restarts
                .insert(name.to_owned(), Backoff::next(entry, ended, now));
            self.memory.served.insert(name.to_owned(), newest.id.clone());
        }
        Step::Start {
            attempt: self.next_attempt(name, true),
        }
    }

    fn note_crash_loop(&mut self, name: &str, delay: Duration, out: &mut Vec<Action>) {
        let meta = &self.pod.metadata;
        let pod = format!(
            "{}_{}({})",
            meta.name.as_deref().unwrap_or_default(),
            meta.namespace.as_deref().unwrap_or_default(),
            meta.uid.as_deref().unwrap_or_default()
        );
        let message = format!(
            "back-off {} restarting failed container={name} pod={pod}",
            go_duration(delay)
        );
        let waiting = Waiting {
            reason: events::CRASH_LOOP_BACK_OFF.to_owned(),
            message,
        };
        if self.waiting.get(name) != Some(&waiting) {
            let message = format!("Back-off restarting failed container {name} in pod {pod}");
            out.push(Action::Record(
                PodEvent::warning(events::BACK_OFF, message).of(name),
            ));
            self.waiting.insert(name.to_owned(), waiting);
        }
    }

    /// Attempts count from 0; `again`: there was one before.
    fn next_attempt(&self, name: &str, again: bool) -> u32 {
        let reported = containers::reported(&self.pod, name)
            .filter(|entry| entry.container_id.is_some())
            .map(|entry| entry.restart_count.max(0) as u32);
        let seen = self.memory.attempts.get(name).copied();
        if again {
            seen.max(reported).map_or(0, |attempt| attempt + 1)
        } else {
            seen.map_or(0, |attempt| attempt + 1)
        }
    }

    /// The Pod is to end here: stop containers, then the sandbox, then give everything back.
    fn stop_due(&mut self, terminating: bool, now: Timestamp, due: &mut Due, out: &mut Vec<Action>) {
        let observed = self.observed.take().expect("checked by due");
        let serves = terminating && !self.gone && observed.running().next().is_some();
        if serves && !self.drained {
            due.push(Action::Drain);
        } else {
            self.stop_containers(&observed, now, due, out);
        }
        let starting = self
            .in_flight
            .keys()
            .any(|key| matches!(key, Key::StartSandbox | Key::Start(_)));
        if observed.running().next().is_none() && !starting {
            self.clean_up(&observed, terminating, due);
        }
        self.observed = Some(observed);
    }

    fn clean_up(&mut self, observed: &Observed, terminating: bool, due: &mut Due) {
        let ready: Vec<_> = observed
            .sandboxes
            .iter()
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
            .collect();
        if !ready.is_empty() {
            return due
                .actions
                .extend(ready.iter().map(|sandbox| Action::StopSandbox {
                    id: sandbox.id.clone(),
                }));
        }
        let busy = self.in_flight.contains_key(&Key::Volumes);
        if !self.torn_down {
            if !busy {
                due.push(Action::TearDown);
            }
        } else if self.gone {
            if !observed.sandboxes.is_empty() {
                let ids = observed.sandboxes.iter().map(|sandbox| Action::RemoveSandbox {
                    id: sandbox.id.clone(),
                });
                due.actions.extend(ids);
            } else if !self.data_removed {
                due.push(Action::RemoveData);
            } else {
                due.push(Action::Forget);
            }
        } else if terminating && !self.object_deleted {
            due.push(Action::DeleteObject);
        }
    }

    /// Main containers at once; then sidecars one by one, last first.
    fn stop_containers(&mut self, observed: &Observed, now: Timestamp, due: &mut Due, out: &mut Vec<Action>) {
        let begun = *self.stop_begun.get_or_insert(now);
        let left = (begun + self.grace()).duration_since(now);
        let grace = Duration::try_from(left).unwrap_or_default().max(STOP_MINIMUM);
        let message = |name: &str| format!("Stopping container {name}");
        let is_init = |name: &str| {
            find(&self.pod, name).is_some_and(|(_, kind)| matches!(kind, Kind::Init | Kind::Sidecar))
        };
        let running: Vec<_> = observed.running().collect();
        let (first, last): (Vec<_>, Vec<_>) = running.into_iter().partition(|found| !is_init(&found.name));
        for container in &first {
            self.stop(container, grace, &message(&container.name), due, out);
        }
        if first.is_empty() {
            let pod = self.pod.clone();
            let next = init(&pod)
                .rev()
                .find_map(|(spec, _)| last.iter().find(|found| found.name == spec.name));
            if let Some(container) = next {
                self.stop(container, grace, &message(&container.name), due, out);
            }
        }
    }

    fn stop(
        &self,
        container: &runtime::Container,
        grace: Duration,
        message: &str,
        due: &mut Due,
        out: &mut Vec<Action>,
    ) {
        let key = Key::Stop(container.id.clone());
        if !self.in_flight.contains_key(&key) && !self.holds.contains_key(&key) {
            out.push(Action::Record(
                PodEvent::normal(events::KILLING, message).of(&container.name),
            ));
        }
        due.push(Action::StopContainer {
            container: container.name.clone(),
            id: container.id.clone(),
            grace,
        });
    }

    /// Removes ended containers beyond what is kept, and dead sandboxes without containers worth keeping.
    fn sweep(&self, observed: &Observed, due: &mut Due) {
        let current = observed.current().map(|sandbox| sandbox.id.as_str());
        let mut kept: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
        for (container, _) in containers::every(&self.pod) {
            for (rank, found) in observed.attempts(&container.name).into_iter().enumerate() {
                let dead = matches!(found.state, ContainerState::Exited(_) | ContainerState::Unknown);
                if rank > DEAD_KEPT && dead {
                    due.push(Action::RemoveContainer { id: found.id.clone() });
                } else {
                    kept.insert(found.id.as_str());
                }
            }
        }
        for sandbox in &observed.sandboxes {
            let dead = sandbox.state == SandboxState::NotReady && Some(sandbox.id.as_str()) != current;
            if dead
                && !sandbox
                    .containers
                    .iter()
                    .any(|container| kept.contains(container.id.as_str()))
            {
                due.push(Action::RemoveSandbox {
                    id: sandbox.id.clone(),
                });
            }
        }
    }

    /// Liveness and readiness wait for the startup probe; while the Pod stops, only readiness goes on.
    fn probes_due(&self, now: Timestamp, terminating: bool, due: &mut Due) {
        let Some(observed) = &self.observed else { return };
        for container in observed.running() {
            let started = self.is_started(&container.name, &container.id);
            for kind in ProbeKind::ALL {
                let wanted = match kind {
                    ProbeKind::Startup => {
                        !started && !terminating && !self.hook_pending.contains(&container.id)
                    }
                    ProbeKind::Liveness => started && !terminating,
                    ProbeKind::Readiness => started,
                };
                let key = (container.id.clone(), kind);
                let Some(next) = self.probes.get(&key).and_then(|probe| probe.next) else {
                    continue;
                };
                if !wanted || self.in_flight.contains_key(&Key::Probe(key.0.clone(), kind)) {
                    continue;
                }
                if next > now {
                    due.wake_at(next);
                } else {
                    due.push(Action::Probe {
                        container: container.name.clone(),
                        id: container.id.clone(),
                        kind,
                    });
                }
            }
        }
    }
}

/// A whole number of seconds the way Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
