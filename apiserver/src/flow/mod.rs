//! Priority and fairness: how many requests run at once, and whose.
//!
//! A request belongs to a flow (`config`), waits for seats of its priority level (`level`, `queues`), and gives them back when
//! it is done. Levels lend each other seats (`shares`); they are divided anew when somebody finds none. Knows the objects of
//! flowcontrol.apiserver.k8s.io as they are stored and follows them. Must not know what a request does.

mod config;
mod level;
mod queues;
mod shares;
mod status;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_api::kinds::flowcontrol::suggested;
use corten_api::meta;
use corten_store::{Entry, Event, EventKind, Snapshot};
use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::authorize::Attributes;
use crate::follow::{self, Followed, Index};
use crate::key::prefix_range;
use crate::{ApiServer, Inner};
use config::{Distinguisher, MANDATORY, SchemaSpec};
use level::{LONGEST_WAIT, Level, Refused};
use shares::{Bounds, Shares};

pub use level::Seats;

/// Seats of a server: requests that read and requests that write. Source: kube-apiserver `--max-requests-inflight` (400) and
/// `--max-mutating-requests-inflight` (200).
pub const DEFAULT_SEATS: u32 = 600;
/// Most seats of one request. Source: Kubernetes `request.maximumSeats`.
const MAX_SEATS: u32 = 10;
/// Objects of a list for one seat. Source: Kubernetes `request.objectsPerSeat`.
const OBJECTS_PER_SEAT: usize = 100;
/// Part of a level's seats that one request may take. Source: Kubernetes `flowcontrol.maxSeatsFn`, 0.15.
const LARGEST_PART: f64 = 0.15;
/// Seats are divided anew at most this often.
const DIVIDE_EVERY: Duration = Duration::from_millis(100);
/// What a level wanted counts half after this time.
const HALF_LIFE: f64 = 10.0;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// What is in force; swapped as a whole when an object changes.
struct Config {
    schemas: Vec<Schema>,
    levels: Vec<Arc<Level>>,
    bounds: Vec<Bounds>,
}

struct Schema {
    name: String,
    uid: Option<HeaderValue>,
    spec: SchemaSpec,
    distinguisher: Distinguisher,
    /// Place in `levels`.
    level: usize,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    dispatched: AtomicU64,
    refused: [AtomicU64; 3],
}

const REASONS: [(Refused, &str); 3] = [
    (Refused::ConcurrencyLimit, "concurrency-limit"),
    (Refused::QueueFull, "queue-full"),
    (Refused::TimeOut, "time-out"),
];

/// Priority and fairness of one server.
pub struct Flow {
    config: RwLock<Arc<Config>>,
    /// When seats were last divided, and what each level wanted, smoothed.
    divided: Mutex<(Instant, BTreeMap<String, f64>)>,
    pub followed: Followed,
    following: AtomicBool,
}

impl Default for Flow {
    /// Upstream's mandatory objects, until others are known.
    fn default() -> Flow {
        let config = Config::new(DEFAULT_SEATS, Vec::new(), Vec::new(), None);
        Flow {
            config: RwLock::new(Arc::new(config)),
            divided: Mutex::new((Instant::now(), BTreeMap::new())),
            followed: Followed::default(),
            following: AtomicBool::new(false),
        }
    }
}

/// A request that is let in, or refused, and the headers that tell of which flow it is.
pub struct Admission {
    /// `None`: refused.
    pub seats: Option<Seats>,
    pub schema_uid: Option<HeaderValue>,
    pub level_uid: Option<HeaderValue>,
}

impl Flow {
    /// Waits until the request may run. `objects`: of a list, how many there are, up to a bound.
    pub async fn admit(&self, asked: &Attributes<'_>, objects: impl FnOnce(usize) -> usize) -> Admission {
        let config = self.config.read().clone();
        let schema = config.schema_of(asked);
        let level = &config.levels[schema.level];
        let seats = match level.spec.limited {
            Some(_) => {
                let largest = f64::from(config.bounds[schema.level].nominal) * LARGEST_PART;
                let largest = (largest.ceil() as u32).clamp(1, MAX_SEATS);
                let most = OBJECTS_PER_SEAT * largest as usize;
                let objects = objects(most).min(most);
                (objects.div_ceil(OBJECTS_PER_SEAT) as u32).clamp(1, largest)
            }
            None => 1,
        };
        let seats = match level.enter(seats) {
            Some(entered) => Ok(entered),
            None => {
                self.divide(&config, level.load().0 == 0);
                level.wait(schema.hash(asked), seats, LONGEST_WAIT).await
            }
        };
        let counted = match &seats {
            Ok(_) => &schema.counts.dispatched,
            Err(refused) => &schema.counts.refused[*refused as usize],
        };
        counted.fetch_add(1, Ordering::Relaxed);
        Admission {
            seats: seats.ok(),
            schema_uid: schema.uid.clone(),
            level_uid: level.uid.clone(),
        }
    }

    /// Divides the seats by what each level wants, unless that was done just now. `at_once`: somebody has none at all.
    fn divide(&self, config: &Config, at_once: bool) {
        let now = Instant::now();
        let wanted: Vec<(Bounds, f64)> = {
            let mut divided = self.divided.lock();
            let since = now.duration_since(divided.0);
            if since < DIVIDE_EVERY && !at_once {
                return;
            }
            divided.0 = now;
            let fade = 0.5f64.powf(since.as_secs_f64() / HALF_LIFE);
            let smooth = |level: &Arc<Level>| {
                let before = divided.1.get(&level.name).copied().unwrap_or(0.0);
                let wanted = f64::from(level.take_peak()).max(before * fade);
                divided.1.insert(level.name.clone(), wanted);
                wanted
            };
            let wanted: Vec<f64> = config.levels.iter().map(smooth).collect();
            divided
                .1
                .retain(|name, _| config.levels.iter().any(|level| level.name == *name));
            config.bounds.iter().copied().zip(wanted).collect()
        };
        for (level, seats) in config.levels.iter().zip(config.allocated(&wanted)) {
            level.set_limit(seats);
        }
    }

    /// Appends the metrics' text.
    pub fn render(&self, out: &mut String) {
        let config = self.config.read().clone();
        let mut put = |name: &str, kind: &str, lines: Vec<(String, u64)>| {
            let _ = writeln!(out, "# TYPE apiserver_flowcontrol_{name} {kind}"); // a string takes what is written
            for (labels, value) in lines {
                let _ = writeln!(out, "apiserver_flowcontrol_{name}{{{labels}}} {value}");
            }
        };
        let labels = |schema: &Schema| {
            let level = &config.levels[schema.level].name;
            format!("flow_schema=\"{}\",priority_level=\"{level}\"", schema.name)
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let dispatched = config
            .schemas
            .iter()
            .map(|schema| (labels(schema), read(&schema.counts.dispatched)));
        put("dispatched_requests_total", "counter", dispatched.collect());
        let rejected = config.schemas.iter().flat_map(|schema| {
            let of = |(refused, reason): &(Refused, &str)| {
                let count = read(&schema.counts.refused[*refused as usize]);
                (count > 0).then(|| (format!("{},reason=\"{reason}\"", labels(schema)), count))
            };
            REASONS.iter().filter_map(of).collect::<Vec<_>>()
        });
        put("rejected_requests_total", "counter", rejected.collect());
        type Gauge = fn(&Level, &Bounds) -> u64;
        let gauges: [(&str, Gauge); 6] = [
            ("current_executing_seats", |level, _| u64::from(level.load().0)),
            ("current_inqueue_requests", |level, _| level.load().1),
            ("nominal_limit_seats", |_, bounds| u64::from(bounds.nominal)),
            ("lower_limit_seats", |_, bounds| u64::from(bounds.least)),
            ("upper_limit_seats", |_, bounds| u64::from(bounds.most)),
            ("current_limit_seats", |level, _| u64::from(level.limit())),
        ];
        for (name, value) in gauges {
            let levels = config.levels.iter().zip(&config.bounds);
            let lines = levels
                .map(|(level, bounds)| (format!("priority_level=\"{}\"", level.name), value(level, bounds)));
            put(name, "gauge", lines.collect());
        }
    }
}

impl Schema {
    fn hash(&self, asked: &Attributes<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match self.distinguisher {
            Distinguisher::Nothing => {}
            Distinguisher::User => asked.user.name.hash(&mut hasher),
            Distinguisher::Namespace => asked.namespace.hash(&mut hasher),
        }
        hasher.finish()
    }
}

impl Config {
    /// `levels` and `schemas`: the objects there are. What is broken or refers to nothing is left out; the mandatory ones
    /// are there anyway. Levels of `before` go on.
    fn new(total: u32, levels: Vec<&Value>, schemas: Vec<&Value>, before: Option<&Config>) -> Config {
        let name = |object: &Value| meta::name(object).to_owned();
        let uid = |object: &Value| HeaderValue::from_str(meta::uid(object)).ok();
        let complete = |mut found: Vec<&'_ Value>, all: &'static [Value]| -> Vec<Value> {
            for wanted in all
                .iter()
                .filter(|object| MANDATORY.contains(&meta::name(object)))
            {
                if !found
                    .iter()
                    .any(|object| meta::name(object) == meta::name(wanted))
                {
                    found.push(wanted);
                }
            }
            found.into_iter().cloned().collect()
        };
        let (mut known, mut shares): (Vec<Arc<Level>>, Vec<Shares>) = (Vec::new(), Vec::new());
        for object in complete(levels, suggested::priority_levels()) {
            let name = name(&object);
            let Some((spec, of)) = config::level(&object) else {
                tracing::warn!(name, "a PriorityLevelConfiguration is broken and not in force");
                continue;
            };
            let old = before.and_then(|before| before.levels.iter().find(|level| level.name == name));
            known.push(Arc::new(Level::new(
                name,
                uid(&object),
                spec,
                old.map(Arc::as_ref),
            )));
            shares.push(of);
        }
        let mut compiled: Vec<Schema> = Vec::new();
        for object in complete(schemas, suggested::flow_schemas()) {
            let name = name(&object);
            let Some(spec) = SchemaSpec::read(&object) else {
                tracing::warn!(name, "a FlowSchema is broken and not in force");
                continue;
            };
            let Some(level) = known.iter().position(|level| level.name == spec.level()) else {
                continue; // dangling
            };
            let old = before.and_then(|before| before.schemas.iter().find(|schema| schema.name == name));
            compiled.push(Schema {
                uid: uid(&object),
                distinguisher: spec.distinguisher(),
                spec,
                level,
                counts: old.map(|old| old.counts.clone()).unwrap_or_default(),
                name,
            });
        }
        compiled.sort_by(|a, b| (a.spec.precedence(), &a.name).cmp(&(b.spec.precedence(), &b.name)));
        let config = Config {
            bounds: shares::bounds(total, &shares),
            levels: known,
            schemas: compiled,
        };
        let none: Vec<(Bounds, f64)> = config
            .bounds
            .iter()
            .map(|bounds| (*bounds, f64::from(bounds.nominal)))
            .collect();
        for (level, seats) in config.levels.iter().zip(config.allocated(&none)) {
            level.set_limit(seats);
        }
        config
    }

    /// The whole is what the nominal seats are together.
    fn allocated(&self, wanted: &[(Bounds, f64)]) -> Vec<u32> {
        let total: u64 = self.bounds.iter().map(|bounds| u64::from(bounds.nominal)).sum();
        shares::allocate(u32::try_from(total).unwrap_or(u32::MAX), wanted)
    }

    /// The first one that matches; the last one, which is for everything, if nothing does.
    fn schema_of(&self, asked: &Attributes<'_>) -> &Schema {
        let found = self.schemas.iter().find(|schema| schema.spec.matches(asked));
        found.unwrap_or_else(|| {
            let catch_all = self.schemas.iter().find(|schema| schema.name == "catch-all");
            catch_all.expect("the mandatory objects are always there")
        })
    }
}

impl ApiServer {
    /// Begins to follow the objects of flow control.
    pub(crate) fn follow_flow(&self) {
        let flow = &self.inner().flow;
        if !flow.following.swap(true, Ordering::AcqRel) {
            follow::start(&self.0, Follower::default(), |server| &server.flow.followed);
        }
    }
}

/// Follows the objects of the group.
#[derive(Default)]
pub struct Follower {
    levels: BTreeMap<Bytes, Value>,
    schemas: BTreeMap<Bytes, Value>,
}

impl Follower {
    fn kind(&mut self, key: &Bytes) -> Option<&mut BTreeMap<Bytes, Value>> {
        let plural = std::str::from_utf8(key).ok()?.split('/').nth(2)?;
        match plural {
            "prioritylevelconfigurations" => Some(&mut self.levels),
            "flowschemas" => Some(&mut self.schemas),
            _ => None,
        }
    }

    fn put(&mut self, entry: &Entry) {
        let json = crate::stored::Stored::new(&entry.value)
            .and_then(|stored| stored.json().map(|json| json.to_vec()));
        let object = json.ok().and_then(|json| serde_json::from_slice(&json).ok());
        let Some(kind) = self.kind(&entry.key) else { return };
        match object {
            Some(object) => kind.insert(entry.key.clone(), object),
            None => kind.remove(&entry.key),
        };
    }
}

impl Index for Follower {
    fn range() -> Range<Bytes> {
        prefix_range(&format!("/{GROUP}/"))
    }

    fn load(&mut self, _: &Inner, snapshot: &Snapshot) {
        *self = Follower::default();
        for entry in snapshot.range(Follower::range()) {
            self.put(&entry);
        }
    }

    fn apply(&mut self, _: &Inner, event: &Event) {
        match &event.kind {
            EventKind::Put { entry, .. } => self.put(entry),
            EventKind::Delete { prev } => {
                if let Some(kind) = self.kind(&prev.key) {
                    kind.remove(&prev.key);
                }
            }
        }
    }

    fn publish(&mut self, server: &Inner) {
        let (levels, schemas) = (self.levels.values().collect(), self.schemas.values().collect());
        let mut current = server.flow.config.write();
        let new = Config::new(server.config.seats, levels, schemas, Some(&current));
        *current = Arc::new(new);
        drop(current);
        status::mend(server, self.levels.values(), self.schemas.values());
    }
}
