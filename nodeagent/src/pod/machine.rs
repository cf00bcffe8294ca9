//! The Pod machine: desired Pod + what the runtime shows + what has ended -> what to do next. Sans IO.
//!
//! Always holds:
//! - the same events give the same actions, so a log of events replays any bug;
//! - a reading of the runtime older than the newest one is ignored, and every action's end brings a reading made after
//!   it: nothing is ever started on old knowledge;
//! - at most one action of a [`Key`] is under way, and no container starts while an older attempt of it still runs;
//! - a machine belongs to one uid. A new Pod of the same name gets its machine when this one has said `Forget`.
//!
//! [`due`](super::due) holds the rules that compare desired with observed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::action::{
    Action, After, Event, Failure, ImageReady, Key, Memory, Observed, Outcome, PodEvent, Verdict,
};
use super::backoff::{Pace, RESTART_FIRST, RESTART_LIMIT};
use super::conditions::OWNED;
use super::containers::{find, spec};
use crate::events;
use crate::probe::{ProbeKind, ProbeResult, ProbeState};
use crate::runtime::ContainerState;

/// After a failed pull the status says `ErrImagePull` for this long, then `ImagePullBackOff` until the next try.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);
/// Grace periods shorter than this are taken as this, as the kubelet does.
pub(super) const STOP_MINIMUM: Duration = Duration::from_secs(1);

/// Why a container waits, as its status shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hold {
    pub until: Timestamp,
    delay: Duration,
    failed: Timestamp,
    pub failure: Failure,
    pub announced: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Flight {
    pub begun: Timestamp,
    /// For `StopContainer`: when it will have been killed at the latest.
    pub deadline: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Volumes {
    #[default]
    Absent,
    Mounted,
    /// Mounted, and a source has changed since.
    Stale,
}

pub struct PodMachine {
    pub(super) pod: Arc<Pod>,
    /// The API no longer has the object.
    pub(super) gone: bool,
    pub(super) observed: Option<Observed>,
    /// A reading after an action failed, or the runtime was away: nothing is decided until a reading newer than this.
    blind: Option<u64>,
    pub(super) in_flight: BTreeMap<Key, Flight>,
    pub(super) holds: BTreeMap<Key, Hold>,
    pub(super) images: BTreeMap<String, ImageReady>,
    pub(super) volumes: Volumes,
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// Containers started by this agent whose postStart hook has not ended yet.
    pub(super) hook_pending: BTreeSet<String>,
    /// Containers to be killed, with the message of the `Killing` event.
    pub(super) condemned: BTreeMap<String, (String, Option<Duration>)>,
    pub(super) probes: BTreeMap<(String, ProbeKind), ProbeState>,
    /// Readiness that the API had for containers found running, until their first probe result.
    adopted_ready: BTreeSet<String>,
    pub(super) memory: Memory,
    remembered: Memory,
    pub(super) drained: bool,
    /// When the first container was told to stop: the grace period is one for the whole Pod.
    pub(super) stop_begun: Option<Timestamp>,
    pub(super) torn_down: bool,
    pub(super) object_deleted: bool,
    pub(super) data_removed: bool,
    pub(super) forgotten: bool,
}

/// What a downward API volume shows of a Pod, and may change.
fn shown(pod: &Pod) -> [Option<&BTreeMap<String, String>>; 2] {
    [pod.metadata.labels.as_ref(), pod.metadata.annotations.as_ref()]
}

impl PodMachine {
    /// `memory`: what an earlier agent process knew of this Pod; default for a new one.
    pub fn new(pod: Arc<Pod>, memory: Memory) -> PodMachine {
        PodMachine {
            pod,
            gone: false,
            observed: None,
            blind: None,
            in_flight: BTreeMap::new(),
            holds: BTreeMap::new(),
            images: BTreeMap::new(),
            volumes: Volumes::default(),
            waiting: BTreeMap::new(),
            hook_pending: BTreeSet::new(),
            condemned: BTreeMap::new(),
            probes: BTreeMap::new(),
            adopted_ready: BTreeSet::new(),
            remembered: memory.clone(),
            memory,
            drained: false,
            stop_begun: None,
            torn_down: false,
            object_deleted: false,
            data_removed: false,
            forgotten: false,
        }
    }

    /// The only way in.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Desired(pod) => {
                if self.volumes == Volumes::Mounted && shown(&pod) != shown(&self.pod) {
                    self.volumes = Volumes::Stale;
                }
                self.pod = pod;
            }
            Event::Gone => self.gone = true,
            Event::Observed(observed) => self.see(observed, now),
            Event::Finished {
                action,
                outcome,
                after,
            } => self.finish(now, action, outcome, after, &mut actions),
            Event::ResourcesChanged => {
                if self.volumes == Volumes::Mounted {
                    self.volumes = Volumes::Stale;
                }
                self.holds
                    .retain(|key, _| !matches!(key, Key::Volumes | Key::Start(_)));
            }
            Event::ImagesChanged => self.holds.retain(|key, hold| {
                !(matches!(key, Key::Image(_)) && hold.failure.reason == events::ERR_IMAGE_NEVER_PULL)
            }),
            Event::RuntimeBack => {
                self.holds
                    .retain(|key, _| matches!(key, Key::Image(_) | Key::Start(_)));
                self.blind = Some(self.observed.as_ref().map_or(0, |observed| observed.reading));
            }
            Event::Rejected(verdict) => {
                self.memory.admitted = false;
                self.memory.verdict = Some(verdict);
            }
            Event::Woke => {}
        }
        self.announce_pull_backoffs(now, &mut actions);
        let due = self.due(now, &mut actions);
        self.admit(due, now, &mut actions);
        if self.memory != self.remembered && !self.forgotten {
            self.remembered = self.memory.clone();
            actions.push(Action::Remember(self.memory.clone()));
        }
        actions
    }

    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn mark_admitted(&mut self) {
        self.memory.admitted = true;
    }

    /// Takes over a status that the API has accepted, before the watch brings it back. Conditions of others stay.
    pub fn assume_status(&mut self, sent: &PodStatus) {
        let pod = Arc::make_mut(&mut self.pod);
        let before = pod.status.replace(sent.clone()).unwrap_or_default();
        let foreign = before
            .conditions
            .into_iter()
            .flatten()
            .filter(|condition| !OWNED.contains(&condition.type_.as_str()));
        let status = pod.status.get_or_insert_default();
        status.conditions.get_or_insert_default().extend(foreign);
        status.nominated_node_name = before.nominated_node_name;
    }

    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_ref()
    }

    pub fn waiting(&self) -> &BTreeMap<String, Waiting> {
        &self.waiting
    }

    /// Whether a running container counts as started: startup probe passed, postStart hook done.
    pub fn is_started(&self, container: &str, id: &str) -> bool {
        if self.hook_pending.contains(id) {
            return false;
        }
        let has_probe =
            find(&self.pod, container).is_some_and(|(container, _)| container.startup_probe.is_some());
        !has_probe || self.probe_passed(id, ProbeKind::Startup).unwrap_or(false)
    }

    /// Whether a running container counts as ready.
    pub fn is_ready(&self, container: &str, id: &str) -> bool {
        if self.adopted_ready.contains(id) {
            return true;
        }
        if !self.is_started(container, id) {
            return false;
        }
        let has_probe =
            find(&self.pod, container).is_some_and(|(container, _)| container.readiness_probe.is_some());
        !has_probe || self.probe_passed(id, ProbeKind::Readiness).unwrap_or(false)
    }

    fn probe_passed(&self, id: &str, kind: ProbeKind) -> Option<bool> {
        self.probes.get(&(id.to_owned(), kind)).map(|probe| probe.passed)
    }

    /// Nothing is decided without a reading that is newer than every action's end.
    pub(super) fn is_blind(&self) -> bool {
        self.observed.is_none() || self.blind.is_some()
    }

    fn see(&mut self, observed: Observed, now: Timestamp) {
        if self
            .observed
            .as_ref()
            .is_some_and(|newest| newest.reading >= observed.reading)
        {
            return;
        }
        let first = self.observed.is_none();
        if self.blind.is_some_and(|blind| observed.reading > blind) {
            self.blind = None;
        }
        for container in observed.containers() {
            if container.state == ContainerState::Created {
                continue; // one that never ran uses up no number
            }
            let attempt = self.memory.attempts.entry(container.name.clone()).or_default();
            *attempt = (*attempt).max(container.attempt);
        }
        for sandbox in &observed.sandboxes {
            self.memory.sandbox_attempt = self.memory.sandbox_attempt.max(sandbox.attempt + 1);
        }
        let running: BTreeMap<&str, (&str, Timestamp)> = observed
            .containers()
            .filter_map(|container| match container.state {
                ContainerState::Running { started_at } => {
                    Some((container.id.as_str(), (container.name.as_str(), started_at)))
                }
                _ => None,
            })
            .collect();
        self.probes.retain(|(id, _), _| running.contains_key(id.as_str()));
        self.condemned.retain(|id, _| running.contains_key(id.as_str()));
        self.hook_pending.retain(|id| running.contains_key(id.as_str()));
        self.adopted_ready.retain(|id| running.contains_key(id.as_str()));
        for (id, (name, started)) in &running {
            let Some((container, _)) = find(&self.pod, name) else {
                continue;
            };
            for kind in ProbeKind::ALL {
                let Some(probe) = kind.spec(&container) else {
                    continue;
                };
                self.probes
                    .entry(((*id).to_owned(), kind))
                    .or_insert_with(|| ProbeState::new(kind, probe, *started, now));
            }
            if first && reported_ready(&self.pod, name, id) {
                self.adopted_ready.insert((*id).to_owned());
            }
        }
        self.observed = Some(observed);
    }

    fn finish(
        &mut self,
        now: Timestamp,
        action: Action,
        outcome: Outcome,
        after: After,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = action.key() else { return };
        let flight = self.in_flight.remove(&key);
        match after {
            After::Read(after) => self.see(after, now),
            // Without a reading the machine cannot tell what the action left behind.
            After::Unread { reading } => self.blind = self.blind.max(Some(reading)),
            After::NotNeeded => {}
        }
        match (&action, outcome) {
            (Action::Probe { container, id, kind }, Outcome::Probed(result)) => {
                let begun = flight.map_or(now, |flight| flight.begun);
                self.probed(container, id, *kind, &result, begun, now, actions);
            }
            (_, Outcome::Failed(failure)) => self.failed(key, &action, failure, now, actions),
            (_, outcome) => {
                let failed_before = self.holds.remove(&key).is_some();
                self.succeeded(&action, outcome, failed_before);
            }
        }
    }

    fn succeeded(&mut self, action: &Action, outcome: Outcome, failed_before: bool) {
        match action {
            Action::MountVolumes => self.volumes = Volumes::Mounted,
            Action::EnsureImage { container } => {
                if let Outcome::Image(image) = outcome {
                    self.images.insert(container.clone(), image);
                }
                if failed_before {
                    self.waiting.remove(container);
                }
            }
            Action::StartContainer { container, .. } => {
                self.images.remove(container);
                self.waiting.remove(container);
                let hook = find(&self.pod, container)
                    .and_then(|(container, _)| container.lifecycle.as_ref()?.post_start.clone())
                    .is_some();
                let started = self
                    .observed
                    .as_ref()
                    .and_then(|observed| observed.newest(container));
                if let (true, Some(started)) = (hook, started) {
                    self.hook_pending.insert(started.id.clone());
                }
            }
            Action::PostStart { id, .. } => {
                self.hook_pending.remove(id);
            }
            Action::Drain => self.drained = true,
            Action::TearDown => {
                self.torn_down = true;
                self.volumes = Volumes::Absent;
            }
            Action::DeleteObject => self.object_deleted = true,
            Action::RemoveData => self.data_removed = true,
            _ => {}
        }
    }

    fn failed(
        &mut self,
        key: Key,
        action: &Action,
        failure: Failure,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        match action {
            Action::EnsureImage { container } | Action::StartContainer { container, .. } => {
                // The image may have gone since it was looked at; a configuration error says nothing about it.
                if failure.reason != events::CREATE_CONTAINER_CONFIG_ERROR {
                    self.images.remove(container);
                }
                let waiting = Waiting {
                    reason: failure.reason.clone(),
                    message: failure.message.clone(),
                };
                self.waiting.insert(container.clone(), waiting);
            }
            Action::PostStart { id, .. } => {
                self.hook_pending.remove(id);
                self.condemned
                    .insert(id.clone(), ("FailedPostStartHook".to_owned(), None));
                actions.push(Action::Record(
                    PodEvent::warning(events::FAILED_POST_START_HOOK, failure.message)
                        .of(&container_of(action)),
                ));
                return;
            }
            Action::RefreshVolumes => self.volumes = Volumes::Stale,
            _ => {}
        }
        let delay = pace(&key).after(self.holds.get(&key).map(|hold| hold.delay));
        let hold = Hold {
            until: now + delay,
            delay,
            failed: now,
            failure,
            announced: false,
        };
        self.holds.insert(key, hold);
    }

    #[allow(clippy::too_many_arguments)]
    fn probed(
        &mut self,
        name: &str,
        id: &str,
        kind: ProbeKind,
        result: &ProbeResult,
        begun: Timestamp,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some((container, _)) = find(&self.pod, name) else {
            return;
        };
        let Some(probe) = kind.spec(&container) else {
            return;
        };
        let Some(state) = self.probes.get_mut(&(id.to_owned(), kind)) else {
            return;
        };
        let decided = state.finish(kind, probe, result, begun, now);
        if kind == ProbeKind::Readiness && decided {
            self.adopted_ready.remove(id);
        }
        let word = kind.name();
        match result {
            ProbeResult::Success => {}
            ProbeResult::Failure(message) => actions.push(Action::Record(
                PodEvent::warning(events::UNHEALTHY, format!("{word} probe failed: {message}")).of(name),
            )),
            ProbeResult::Error(message) => actions.push(Action::Record(
                PodEvent::warning(
                    events::UNHEALTHY,
                    format!("{word} probe errored and resulted in unknown state: {message}"),
                )
                .of(name),
            )),
        }
        if state.condemned(kind) {
            let grace = probe.termination_grace_period_seconds;
            let word = word.to_lowercase();
            let message = format!("Container {name} failed {word} probe, will be restarted");
            let grace = grace.map(|seconds| Duration::from_secs(seconds.max(0) as u64));
            self.condemned.insert(id.to_owned(), (message, grace));
        }
    }

    /// `ErrImagePull` turns into `ImagePullBackOff` while the next try is waited for.
    fn announce_pull_backoffs(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for (key, hold) in &mut self.holds {
            let Key::Image(name) = key else { continue };
            if hold.announced || now < hold.failed + PULL_ERROR_SHOWN {
                continue;
            }
            hold.announced = true;
            if hold.failure.reason != events::ERR_IMAGE_PULL {
                continue;
            }
            let image = find(&self.pod, name)
                .and_then(|(container, _)| container.image.clone())
                .unwrap_or_default();
            let message = format!(
                "Back-off pulling image \"{image}\": {}: {}",
                hold.failure.reason, hold.failure.message
            );
            let event = PodEvent::normal(events::BACK_OFF, format!("Back-off pulling image \"{image}\""));
            actions.push(Action::Record(event.of(name)));
            let failed = PodEvent::warning(events::FAILED, format!("Error: {}", events::IMAGE_PULL_BACK_OFF));
            actions.push(Action::Record(failed.of(name)));
            let waiting = Waiting {
                reason: events::IMAGE_PULL_BACK_OFF.to_owned(),
                message,
            };
            self.waiting.insert(name.clone(), waiting);
        }
    }

    /// Drops what is under way or held back, notes the rest as under way, and asks for the next wake-up.
    fn admit(&mut self, due: Due, now: Timestamp, actions: &mut Vec<Action>) {
        let mut wake = due.wake;
        let mut wake_at = |at: Timestamp| wake = Some(wake.map_or(at, |wake: Timestamp| wake.min(at)));
        for action in due.actions {
            if action == Action::Forget {
                self.forgotten = true;
                actions.push(action);
                continue;
            }
            let Some(key) = action.key() else {
                actions.push(action);
                continue;
            };
            let deadline = match &action {
                Action::StopContainer { grace, .. } => Some(now + *grace),
                _ => None,
            };
            match self.in_flight.get(&key) {
                // A shorter grace period than the one under way is obeyed.
                Some(Flight {
                    deadline: Some(old), ..
                }) if deadline.is_some_and(|new| new + STOP_MINIMUM < *old) => {}
                Some(_) => continue,
                None => {}
            }
            if let Some(hold) = self.holds.get(&key)
                && hold.until > now
            {
                wake_at(hold.until);
                if matches!(key, Key::Image(_)) && !hold.announced {
                    wake_at(hold.failed + PULL_ERROR_SHOWN);
                }
                continue;
            }
            match &action {
                Action::StartSandbox { attempt } => self.memory.sandbox_attempt = attempt + 1,
                Action::RefreshVolumes => self.volumes = Volumes::Mounted,
                _ => {}
            }
            self.in_flight.insert(key, Flight { begun: now, deadline });
            actions.push(action);
        }
        if let Some(at) = wake {
            actions.push(Action::WakeAt(at));
        }
    }

    /// Seconds a container gets between TERM and KILL; default 30, at least 1.
    pub(super) fn grace(&self) -> Duration {
        let spec_seconds = spec(&self.pod).termination_grace_period_seconds.unwrap_or(30);
        let seconds = match self.pod.metadata.deletion_timestamp {
            Some(_) => self
                .pod
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or(spec_seconds),
            None => spec_seconds,
        };
        Duration::from_secs(seconds.max(0) as u64).max(STOP_MINIMUM)
    }

    pub fn verdict(&self) -> Option<&Verdict> {
        self.memory.verdict.as_ref()
    }
}

/// What is due, before back-off and what is under way are taken off.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub actions: Vec<Action>,
    pub wake: Option<Timestamp>,
}

impl Due {
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

fn container_of(action: &Action) -> String {
    match action {
        Action::PostStart { container, .. } => container.clone(),
        _ => String::new(),
    }
}

fn reported_ready(pod: &Pod, name: &str, id: &str) -> bool {
    super::containers::reported(pod, name).is_some_and(|entry| {
        entry.ready
            && entry
                .container_id
                .as_deref()
                .is_some_and(|reported| reported.ends_with(id))
    })
}

/// How fast each kind of action is tried again.
fn pace(key: &Key) -> Pace {
    match key {
        Key::Image(_) => Pace {
            first: RESTART_FIRST,
            limit: RESTART_LIMIT,
        },
        Key::Start(_) => Pace::new(2_000, 60_000),
        Key::StartSandbox => Pace::new(500, 30_000),
        Key::Volumes => Pace::new(500, 122_000),
        _ => Pace::new(500, 30_000),
    }
}
