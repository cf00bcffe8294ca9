//! The Deployment controller against a small model of the ReplicaSet controller: whole rollouts as tables.

use std::sync::Arc;

use corten_client::Patch;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, ReplicaSet, ReplicaSetStatus,
    RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::plan::{Step, plan};
use super::revision::{REVISION, revision};
use super::sets::{actual, available, replicas};
use super::status_patch;

/// A Deployment, its ReplicaSets and the Pods they would have. Steps are applied as the server would.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    now: Timestamp,
    log: Vec<String>,
}

impl World {
    fn new(options: &str) -> Self {
        let option = |name: &str| {
            options
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let share = |name: &str| {
            option(name).map(|text| text.parse().map_or(IntOrString::String(text), IntOrString::Int))
        };
        let number =
            |name: &str, default| option(name).map_or(default, |text| text.parse().expect("a number"));
        let deployment = Deployment {
            metadata: ObjectMeta {
                name: Some("web".into()),
                namespace: Some("a".into()),
                uid: Some("d".into()),
                generation: Some(1),
                ..Default::default()
            },
            spec: Some(DeploymentSpec {
                replicas: Some(number("replicas", 3)),
                progress_deadline_seconds: Some(number("deadline", 600)),
                revision_history_limit: Some(number("history", 10)),
                strategy: Some(DeploymentStrategy {
                    type_: Some(option("type").unwrap_or_else(|| "RollingUpdate".into())),
                    rolling_update: Some(RollingUpdateDeployment {
                        max_surge: share("surge"),
                        max_unavailable: share("unavailable"),
                    }),
                }),
                template: template("v1"),
                ..Default::default()
            }),
            status: None,
        };
        let now = Timestamp::from_second(1_000_000_000).expect("a time");
        World {
            deployment,
            sets: Vec::new(),
            now,
            log: Vec::new(),
        }
    }

    fn spec(&mut self) -> &mut DeploymentSpec {
        self.deployment.metadata.generation = self
            .deployment
            .metadata
            .generation
            .map(|generation| generation + 1);
        self.deployment.spec.as_mut().expect("a spec")
    }

    /// The image tag is the set's short name in the log.
    fn tag(set: &ReplicaSet) -> String {
        let spec = set
            .spec
            .as_ref()
            .and_then(|spec| spec.template.as_ref()?.spec.as_ref());
        spec.and_then(|spec| spec.containers[0].image.clone())
            .expect("an image")
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create(mut set) => {
                self.log
                    .push(format!("{}=0-{}", World::tag(&set), replicas(&set)));
                set.metadata.uid = set.metadata.name.clone();
                set.metadata.generation = Some(1);
                set.metadata.creation_timestamp = Some(Time(self.now));
                self.now += SignedDuration::from_secs(1);
                self.sets.push(Arc::new(*set));
            }
            Step::Update(set) => self.put(*set),
            Step::Scale { set, from } => {
                if from != replicas(&set) {
                    self.log
                        .push(format!("{}={from}-{}", World::tag(&set), replicas(&set)));
                }
                self.put(*set);
            }
            Step::Delete(set) => {
                self.log.push(format!("-{}", World::tag(&set)));
                self.sets.retain(|other| other.metadata.name != set.metadata.name);
            }
            Step::SetRevision(revision) => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                annotations.insert(REVISION.into(), revision);
            }
            Step::Status(status) => self.deployment.status = Some(*status),
        }
    }

    fn put(&mut self, set: ReplicaSet) {
        let at = self
            .sets
            .iter()
            .position(|other| other.metadata.name == set.metadata.name)
            .expect("known");
        self.sets[at] = Arc::new(set);
    }

    /// Syncs until nothing is left to do; more than 50 times means that two syncs undo each other.
    fn settle(&mut self) {
        for _ in 0..50 {
            let plan = plan(&self.deployment, &self.sets, |set| actual(set) > 0, self.now);
            if plan.steps.is_empty() {
                return;
            }
            plan.steps.into_iter().for_each(|step| self.step(step));
        }
        panic!("does not settle: {:?}", self.log);
    }

    /// Every ReplicaSet has the Pods it wants; `good` tells whether a template's Pods become available.
    fn run_pods(&mut self, good: impl Fn(&str) -> bool) {
        for set in &mut self.sets {
            let mut next = ReplicaSet::clone(set);
            let size = replicas(set);
            let healthy = if good(&World::tag(set)) { size } else { 0 };
            next.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(healthy),
                available_replicas: Some(healthy),
                observed_generation: set.metadata.generation,
                ..Default::default()
            });
            *set = Arc::new(next);
        }
    }

    /// Pods and Deployment in turn until both rest.
    fn roll(&mut self, good: impl Fn(&str) -> bool) {
        loop {
            let before = self.log.len();
            self.settle();
            self.run_pods(&good);
            self.settle();
            if self.log.len() == before {
                return;
            }
        }
    }

    fn image(&mut self, tag: &str) {
        self.spec().template = template(tag);
    }

    fn status(&self) -> &DeploymentStatus {
        self.deployment.status.as_ref().expect("a status")
    }

    fn progressing(&self) -> String {
        let conditions = self.status().conditions.iter().flatten();
        let found = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Progressing");
        found.map_or("-".into(), |condition| {
            format!(
                "{} {}",
                condition.status,
                condition.reason.as_deref().unwrap_or_default()
            )
        })
    }
}

fn template(tag: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".into(),
                image: Some(tag.into()),
                ..Default::default()
            }],
            ..Default::default()
        }),
    }
}

/// Rolls v1 out, then v2, and compares the scalings of the second rollout.
#[track_caller]
fn check(options: &str, good: bool, log: &str) -> World {
    let mut world = World::new(options);
    world.roll(|_| true);
    world.log.clear();
    world.image("v2");
    world.roll(|tag| good || tag == "v1");
    assert_eq!(world.log.join(" "), log);
    world
}

#[test]
fn a_first_rollout_creates_all_at_once_and_completes() {
    let mut world = World::new("replicas=3");
    world.settle();
    assert_eq!(world.log.join(" "), "v1=0-3");
    assert_eq!(world.progressing(), "True NewReplicaSetCreated");
    world.run_pods(|_| true);
    world.settle();
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
    assert_eq!(world.status().available_replicas, Some(3));
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().expect("some")[REVISION],
        "1"
    );
}

#[test]
fn surge_and_unavailable_bound_each_step() {
    check(
        "replicas=3 surge=1 unavailable=0",
        true,
        "v2=0-1 v1=3-2 v2=1-2 v1=2-1 v2=2-3 v1=1-0",
    );
    check(
        "replicas=4 surge=25% unavailable=25%",
        true,
        "v2=0-1 v1=4-3 v2=1-2 v1=3-1 v2=2-4 v1=1-0",
    );
    check(
        "replicas=3 surge=0 unavailable=1",
        true,
        "v2=0-0 v1=3-2 v2=0-1 v1=2-1 v2=1-2 v1=1-0 v2=2-3",
    );
    check("replicas=3 surge=100% unavailable=0", true, "v2=0-3 v1=3-0");
}

#[test]
fn both_zero_means_one_unavailable() {
    check(
        "replicas=2 surge=0% unavailable=0%",
        true,
        "v2=0-0 v1=2-1 v2=0-1 v1=1-0 v2=1-2",
    );
}

#[test]
fn a_bad_template_stops_within_its_bounds() {
    let world = check(
        "replicas=4 surge=25% unavailable=25%",
        false,
        "v2=0-1 v1=4-3 v2=1-2",
    );
    assert_eq!(world.sets.iter().map(|set| available(set)).sum::<i32>(), 3);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new("replicas=2 type=Recreate");
    world.roll(|_| true);
    world.log.clear();
    world.image("v2");
    world.settle();
    assert_eq!(world.log.join(" "), "v1=2-0");
    world.run_pods(|_| true);
    world.settle();
    assert_eq!(world.log.join(" "), "v1=2-0 v2=0-2");
}

#[test]
fn undo_reuses_the_old_set_under_a_new_revision() {
    let mut world = check("replicas=1 surge=1 unavailable=0", true, "v2=0-1 v1=1-0");
    world.log.clear();
    world.image("v1");
    world.roll(|_| true);
    assert_eq!(world.log.join(" "), "v1=0-1 v2=1-0");
    assert_eq!(
        world.sets.iter().map(|set| revision(set)).collect::<Vec<_>>(),
        [3, 2]
    );
    assert_eq!(
        world.deployment.metadata.annotations.as_ref().expect("some")[REVISION],
        "3"
    );
}

#[test]
fn history_beyond_the_limit_is_deleted_oldest_first() {
    let mut world = World::new("replicas=1 surge=1 unavailable=0 history=1");
    for tag in ["v1", "v2", "v3"] {
        world.image(tag);
        world.roll(|_| true);
    }
    assert!(world.log.contains(&"-v1".to_owned()), "{:?}", world.log);
    assert_eq!(world.sets.len(), 2);
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    let mut world = World::new("replicas=10 surge=3 unavailable=2");
    world.roll(|_| true);
    world.image("v2");
    world.roll(|tag| tag == "v1");
    let sizes = |world: &World| world.sets.iter().map(|set| replicas(set)).collect::<Vec<_>>();
    assert_eq!(sizes(&world), [8, 5]);
    world.spec().replicas = Some(15);
    world.settle();
    assert_eq!(sizes(&world), [11, 7]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new("replicas=2");
    world.roll(|_| true);
    world.log.clear();
    world.spec().paused = Some(true);
    world.image("v2");
    world.spec().replicas = Some(4);
    world.roll(|_| true);
    assert_eq!(world.log.join(" "), "v1=2-4");
    assert_eq!(world.progressing(), "Unknown DeploymentPaused");
    world.spec().paused = Some(false);
    world.roll(|_| true);
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
}

#[test]
fn a_rollout_that_stands_still_times_out() {
    let mut world = World::new("replicas=1 deadline=60 surge=1 unavailable=0");
    world.roll(|_| true);
    world.image("v2");
    world.roll(|tag| tag == "v1");
    let plan = plan(&world.deployment, &world.sets, |_| true, world.now);
    assert!(
        plan.look_again.is_some_and(|wait| wait.as_secs() >= 59),
        "{:?}",
        plan.look_again
    );
    world.now += SignedDuration::from_secs(62);
    world.settle();
    assert_eq!(world.progressing(), "False ProgressDeadlineExceeded");
    world.roll(|_| true);
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
}

/// A status written with older annotations would undo what `kubectl apply` remembers in one, and the next apply would
/// not remove what the one before had added.
#[test]
fn a_report_touches_nothing_but_the_status() {
    let status = DeploymentStatus {
        replicas: Some(2),
        ..DeploymentStatus::default()
    };
    let Patch::Json(patch) = status_patch("d", &status) else {
        panic!("operations on single fields");
    };
    let operations = patch.as_array().expect("a list");
    let touched: Vec<&str> = operations.iter().filter_map(|one| one["path"].as_str()).collect();
    assert_eq!(touched, ["/metadata/uid", "/status"]);
    assert_eq!(operations[1]["value"]["replicas"], 2);
}
