//! One Pod's worker: feeds its machine, starts the actions, sends the status.
//!
//! A status is sent when it differs from what the API has; while one is being sent, newer ones wait and only the newest
//! goes out. The Pod object is deleted only after its last status has arrived.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_client::object::revision_of;
use corten_client::request::DeleteOptions;
use corten_client::{ApiError, ObjectKey, Patch, Written};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio::sync::{mpsc, watch};

use super::io::{Context, perform, read};
use super::{Shared, patch};
use crate::pod::action::{Action, After, Event, Failure, Observed, Outcome};
use crate::pod::backoff::Pace;
use crate::pod::containers::spec;
use crate::pod::machine::PodMachine;

/// Events waiting for a worker. It never blocks, so only a burst of its own actions' ends can queue up here.
pub const INBOX: usize = 256;
const STATUS_RETRY: Pace = Pace::new(200, 10_000);

/// What the agent tells a worker.
#[derive(Debug)]
pub enum Message {
    Event(Box<Event>),
    /// Something happened to the Pod's containers: read them.
    Look,
}

impl Message {
    pub fn event(event: Event) -> Message {
        Message::Event(Box::new(event))
    }
}

/// What others may know of a Pod here.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub pod: Arc<Pod>,
    pub observed: Arc<Observed>,
    pub status: PodStatus,
}

enum Done {
    Action(Box<(Action, Outcome, After)>),
    Read(After),
    Status(Box<PodStatus>, Result<Written, ApiError>),
}

struct StatusWriter {
    /// As the API has it, as far as known.
    base: PodStatus,
    /// Revision of our own last write: an older object from the watch says nothing new.
    revision: u64,
    sending: bool,
    retry: Option<Timestamp>,
    delay: Option<Duration>,
    /// The API refused this one; the same is not sent again.
    refused: Option<PodStatus>,
    /// The object is gone or is another one now.
    over: bool,
}

pub struct Worker {
    shared: Arc<Shared>,
    machine: PodMachine,
    uid: String,
    done: mpsc::Sender<Done>,
    wake: Option<Timestamp>,
    looking: bool,
    look_again: bool,
    status: StatusWriter,
    delete_waits: bool,
    snapshot: watch::Sender<Snapshot>,
    /// Containers whose logs are being rotated.
    running: BTreeSet<String>,
}

/// Runs until the Pod is forgotten. The receiver of `snapshot` sees every change.
pub async fn run(
    shared: Arc<Shared>,
    machine: PodMachine,
    mut inbox: mpsc::Receiver<Message>,
    snapshot: watch::Sender<Snapshot>,
) {
    let (done, mut ends) = mpsc::channel(INBOX);
    let pod = machine.pod().clone();
    let mut worker = Worker {
        shared,
        machine,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        done,
        wake: None,
        looking: false,
        look_again: false,
        status: StatusWriter {
            base: pod.status.clone().unwrap_or_default(),
            revision: revision_of(&pod.metadata),
            sending: false,
            retry: None,
            delay: None,
            refused: None,
            over: false,
        },
        delete_waits: false,
        snapshot,
        running: BTreeSet::new(),
    };
    let mut next = Some(Event::Woke);
    loop {
        if let Some(event) = next.take()
            && worker.step(event)
        {
            return;
        }
        worker.report();
        let sleep = worker.sleep();
        tokio::select! {
            message = inbox.recv() => match message {
                Some(Message::Event(event)) => {
                    worker.note(&event);
                    next = Some(*event);
                }
                Some(Message::Look) => worker.look(),
                None => return,
            },
            Some(end) = ends.recv() => next = worker.ended(end),
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => next = Some(Event::Woke),
        }
    }
}

impl Worker {
    /// `true`: forgotten.
    fn step(&mut self, event: Event) -> bool {
        let now = Timestamp::now();
        tracing::trace!(uid = self.uid, ?event, "event");
        self.wake = None;
        let actions = self.machine.step(now, event);
        for action in actions {
            tracing::debug!(uid = self.uid, ?action, "action");
            match action {
                Action::Record(event) => self.shared.record(self.machine.pod(), &event),
                Action::Remember(memory) => self.shared.state.save(&self.uid, memory),
                Action::WakeAt(at) => self.wake = Some(at),
                Action::Forget => return true,
                Action::DeleteObject => self.delete_waits = true,
                action => {
                    let (context, done) = (self.context(), self.done.clone());
                    tokio::spawn(async move {
                        let end = perform(context, action).await;
                        // A worker that has ended needs no answer.
                        let _ = done.send(Done::Action(Box::new(end))).await;
                    });
                }
            }
        }
        self.publish();
        false
    }

    fn context(&self) -> Context {
        let pod = self.machine.pod().clone();
        let host_network = spec(&pod).host_network == Some(true);
        let sandbox = self.machine.observed().and_then(Observed::ready);
        let ips: Vec<IpAddr> = match sandbox {
            _ if host_network => self.shared.node_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        Context {
            shared: self.shared.clone(),
            pod,
            ips,
        }
    }

    /// Keeps the base of status patches in step with the API.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Desired(pod) if revision_of(&pod.metadata) >= self.status.revision => {
                self.status.base = pod.status.clone().unwrap_or_default();
                self.status.revision = revision_of(&pod.metadata);
            }
            Event::Gone => self.status.over = true,
            _ => {}
        }
    }

    fn look(&mut self) {
        if self.looking {
            self.look_again = true;
            return;
        }
        self.looking = true;
        let (shared, pod, done) = (self.shared.clone(), self.machine.pod().clone(), self.done.clone());
        tokio::spawn(async move {
            let after = read(&shared, &pod).await;
            let _ = done.send(Done::Read(after)).await;
        });
    }

    fn ended(&mut self, end: Done) -> Option<Event> {
        match end {
            Done::Action(end) => {
                let (action, outcome, after) = *end;
                Some(Event::Finished {
                    action,
                    outcome,
                    after,
                })
            }
            Done::Read(after) => {
                self.looking = false;
                if std::mem::take(&mut self.look_again) {
                    self.look();
                }
                match after {
                    After::Read(observed) => Some(Event::Observed(observed)),
                    // The machine itself asks again, with back-off.
                    _ => Some(Event::RuntimeBack),
                }
            }
            Done::Status(sent, result) => {
                self.sent(*sent, result);
                None
            }
        }
    }

    fn sent(&mut self, sent: PodStatus, result: Result<Written, ApiError>) {
        let writer = &mut self.status;
        writer.sending = false;
        match result {
            Ok(written) => {
                writer.delay = None;
                if written.revision >= writer.revision {
                    writer.revision = written.revision;
                    self.machine.assume_status(&sent);
                    writer.base = sent;
                }
            }
            // Another Pod of this name, or none: there is nothing to report to.
            Err(error) if error.is_not_found() || error.is_conflict() => writer.over = true,
            Err(error) if (400..500).contains(&error.code()) && error.code() != 429 => {
                tracing::error!(%error, uid = self.uid, "the API refuses the Pod's status");
                writer.refused = Some(sent);
            }
            Err(error) => {
                let delay = STATUS_RETRY.after(writer.delay);
                tracing::debug!(%error, uid = self.uid, "send the Pod's status");
                writer.delay = Some(delay);
                writer.retry = Some(Timestamp::now() + delay);
            }
        }
    }

    /// Sends the status if it has something new and nothing is under way.
    fn report(&mut self) {
        let now = Timestamp::now();
        if self.status.sending || self.status.retry.is_some_and(|retry| retry > now) {
            return;
        }
        self.status.retry = None;
        if !self.status.over
            && let Some(status) = self.machine.status(&self.shared.facts, now)
            && self.status.refused.as_ref() != Some(&status)
            && let Some(change) = patch::patch(&self.uid, &self.status.base, &status)
        {
            self.status.sending = true;
            let (api, done, key) = (self.shared.api.clone(), self.done.clone(), self.key());
            tokio::spawn(async move {
                let result = api.patch_status::<Pod>(&key, &Patch::Strategic(change)).await;
                let _ = done.send(Done::Status(Box::new(status), result)).await;
            });
        } else if std::mem::take(&mut self.delete_waits) {
            self.delete();
        }
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.machine.pod().metadata)
    }

    fn delete(&self) {
        let (api, done, key) = (self.shared.api.clone(), self.done.clone(), self.key());
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            ..DeleteOptions::uid(self.uid.clone())
        };
        tokio::spawn(async move {
            let outcome = match api.delete::<Pod>(&key, &options).await {
                Ok(_) => Outcome::Done,
                Err(error) if error.is_not_found() || error.is_conflict() => Outcome::Done,
                Err(error) => Outcome::Failed(Failure::new("FailedDelete", error.to_string())),
            };
            let _ = done
                .send(Done::Action(Box::new((
                    Action::DeleteObject,
                    outcome,
                    After::NotNeeded,
                ))))
                .await;
        });
    }

    fn sleep(&self) -> Option<Duration> {
        let at = match (self.wake, self.status.retry) {
            (Some(wake), Some(retry)) => wake.min(retry),
            (wake, retry) => wake.or(retry)?,
        };
        let left = at.duration_since(Timestamp::now());
        // Rounded up: waking a moment early would only go round once more.
        Some(Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1))
    }

    fn publish(&mut self) {
        let Some(observed) = self.machine.observed() else {
            return;
        };
        let running: BTreeSet<String> = observed.running().map(|container| container.id.clone()).collect();
        for container in observed
            .running()
            .filter(|container| !self.running.contains(&container.id))
        {
            self.shared.rotator.add(&container.id, &container.log_path);
        }
        for ended in self.running.difference(&running) {
            self.shared.rotator.remove(ended);
        }
        self.running = running;
        let status = self
            .machine
            .status(&self.shared.facts, Timestamp::now())
            .unwrap_or_default();
        let snapshot = Snapshot {
            pod: self.machine.pod().clone(),
            observed: Arc::new(observed.clone()),
            status,
        };
        self.snapshot.send_replace(snapshot);
    }
}
