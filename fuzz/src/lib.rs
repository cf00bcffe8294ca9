//! What the fuzz targets share: counting of allocated bytes, kinds picked by a byte, the object that patches change.
//!
//! Each target checks properties, not only that nothing panics: what is read and written again stays the same, and the
//! memory that is allocated on the way is bounded by a multiple of the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use corten_api::{ResourceType, registry};
use serde_json::{Value, json};

struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size.saturating_sub(layout.size()), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes every call may allocate whatever its input: zero objects, errors, tables made on first use come on top of it.
const FIXED: usize = 256 * 1024;

/// Runs `work`, which may allocate `factor` bytes for each byte of its input.
#[track_caller]
pub fn bounded<T>(input: usize, factor: usize, work: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let done = work();
    let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
    let bound = FIXED + input * factor;
    assert!(
        allocated <= bound,
        "{allocated} bytes allocated for {input} bytes of input, more than {bound}"
    );
    done
}

/// One of the registered kinds. The tables behind it are made before anything is counted.
#[must_use]
pub fn kind(pick: u8) -> &'static ResourceType {
    let all = registry().all();
    let kind = &all[usize::from(pick) % all.len()];
    let _ = kind.decode(b"{}", corten_api::FieldValidation::Ignore);
    kind
}

/// The object that patches are applied to.
#[must_use]
pub fn deployment() -> (&'static ResourceType, Value) {
    let kind = registry().lookup("apps", "v1", "deployments").expect("built in");
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}, "finalizers": ["a/b"]},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "a", "image": "i", "resources": {}, "args": ["x", "y"],
                            "ports": [{"containerPort": 80, "protocol": "TCP"}],
                            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                        {"name": "b", "image": "j", "resources": {}},
                    ],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                    "tolerations": [{"key": "k", "operator": "Exists"}],
                },
            },
        },
        "status": {},
    });
    (kind, object)
}

/// Depth of a value: containers within containers.
#[must_use]
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
