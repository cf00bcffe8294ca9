//! Memory grows linearly with the input, whatever reads it: four times the input allocates about four times as much.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use corten_api::patch::{json_patch, merge_patch, strategic_merge};
use corten_api::schema::{decode::parse_json, proto};
use corten_api::selector::{FieldSelector, LabelSelector};
use corten_api::{FieldValidation, registry};
use serde_json::{Value, json};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + bytes));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Elements of the smaller input.
const SMALL: usize = 500;
const TIMES: usize = 4;
/// Growing buffers double, so the step from one size to the next may fall before or behind a doubling.
const SLACK: f64 = 1.6;

fn allocated(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.with(Cell::get);
    work();
    ALLOCATED.with(Cell::get) - before
}

/// `make` makes an input of so many elements, `read` is what is measured.
#[track_caller]
fn check<T>(make: impl Fn(usize) -> T, read: impl Fn(&T)) {
    let (small, large) = (make(SMALL), make(SMALL * TIMES));
    read(&make(1)); // what is made once for all
    let (few, many) = (allocated(|| read(&small)), allocated(|| read(&large)));
    assert!(
        many as f64 <= few as f64 * TIMES as f64 * SLACK + 65_536.0,
        "{few} bytes for one part, {many} for {TIMES}"
    );
}

fn pod(containers: usize) -> Value {
    let container = |idx: usize| {
        json!({"name": format!("c{idx}"), "image": "i", "env": [{"name": "A", "value": "b"}],
            "resources": {"limits": {"cpu": "100m"}}, "ports": [{"containerPort": 80}]})
    };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": (0..containers).map(container).collect::<Vec<_>>()}})
}

fn pods() -> &'static corten_api::ResourceType {
    registry().lookup("", "v1", "pods").expect("built in")
}

#[test]
fn json_bodies() {
    let decode = |body: &String| drop(pods().decode(body.as_bytes(), FieldValidation::Warn));
    check(|n| pod(n).to_string(), decode);
    check(
        |n| format!("{{\"spec\":{{{}\"x\":1}}}}", "\"x\":[{}],".repeat(n)),
        decode,
    );
    check(
        |n| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n)),
        decode,
    );
    check(
        |n| format!("[{}1]", "{\"a\":[1,2,\"\\u00e9\"]},".repeat(n)),
        |body| drop(parse_json(body.as_bytes())),
    );
}

#[test]
fn protobuf_bodies() {
    check(
        |n| pod(n).to_string(),
        |json| drop(proto::from_json(json.as_bytes())),
    );
    check(
        |n| proto::from_json(pod(n).to_string().as_bytes()).expect("a Pod"),
        |bytes| drop(proto::to_json(bytes)),
    );
    // Objects within objects, as deep as they may be.
    check(
        |n| {
            let level = n * 190 / (SMALL * TIMES) + 1;
            let deep = format!(
                "{}{}",
                r#"{"properties":{"a":"#.repeat(level),
                "{}".to_owned() + &"}}".repeat(level)
            );
            format!(
                r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{deep}}}}}]}}}}"#
            )
        },
        |json| drop(proto::from_json(json.as_bytes())),
    );
}

#[test]
fn patches() {
    let change = |n: usize| {
        let mut patch = pod(n);
        patch["spec"]["containers"][0]["image"] = "j".into();
        (pod(n), patch)
    };
    let entry = pods().type_facts().expect("built in");
    check(change, |(object, patch)| {
        let mut object = object.clone();
        strategic_merge(&mut object, patch, entry).expect("a patch");
    });
    check(change, |(object, patch)| merge_patch(&mut object.clone(), patch));
    let add = json!({"op": "add", "path": "/spec/containers/-", "value": {"name": "c"}});
    check(
        |n| Value::Array(vec![add.clone(); n]),
        |patch| json_patch(&mut pod(1), patch).expect("a patch"),
    );
}

#[test]
fn selectors() {
    check(
        |n| {
            (0..n)
                .map(|idx| format!("k{idx} in (a,b,c),!x{idx}"))
                .collect::<Vec<_>>()
                .join(",")
        },
        |text| drop(LabelSelector::parse(text)),
    );
    check(
        |n| vec!["metadata.name!=a\\,b"; n].join(","),
        |text| drop(FieldSelector::parse(text)),
    );
}
