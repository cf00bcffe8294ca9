//! What a definition of a real operator's size takes of the heap, counted to the byte. `cargo xtask bench access` measures the
//! same in resident memory, with 200 of them.

mod common;
#[path = "common/operator_crd.rs"]
mod operator_crd;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use common::World;
use serde_json::Value;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Definitions measured, after as many that fill what is made once.
const COUNT: usize = 4;
/// Most of each, in KB, whatever has been asked about it. Beside what is served, the store's history has it twice (as it was
/// made, and with its status) and the log in memory, which real servers do not have, twice again.
const MOST_KB: f64 = 150.0;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn in_use_kb() -> f64 {
    IN_USE.load(Ordering::Relaxed) as f64 / 1000.0
}

async fn make(world: &World, from: usize) {
    for number in from..from + COUNT {
        let made = world.post(DEFINITIONS, &operator_crd::definition(number)).await;
        assert_eq!(made.code, 201, "{}", made.text);
    }
    for number in from..from + COUNT {
        let name = operator_crd::definition(number)["metadata"]["name"].clone();
        let path = format!("{DEFINITIONS}/{}", name.as_str().expect("a name"));
        let established = |definition: &Value| {
            let conditions = definition["status"]["conditions"].as_array().cloned();
            conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Established"))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while !established(&world.get(&path).await.json()) {
            assert!(std::time::Instant::now() < deadline, "{path} is not established");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn use_them(world: &World, from: usize) {
    for number in from..from + COUNT {
        let (path, object) = (operator_crd::path(number), operator_crd::object(number, "web"));
        let made = world.post(&path, &object).await;
        assert_eq!(made.code, 201, "{}", made.text);
    }
}

async fn ask_for_documents(world: &World, from: usize) {
    for number in from..from + COUNT {
        let document = format!("/openapi/v3/apis/{}/v1", operator_crd::group(number));
        assert_eq!(world.get(&document).await.code, 200);
    }
}

#[tokio::test]
async fn a_definition_takes_little_memory() {
    let world = World::new().await;
    make(&world, 0).await;
    use_them(&world, 0).await;
    ask_for_documents(&world, 0).await;
    let before = in_use_kb();
    let check = |what: &str| {
        let each = (in_use_kb() - before) / COUNT as f64;
        println!("{what}: {each:.1} KB each");
        assert!(each < MOST_KB, "{what}: {each:.1} KB each, at most {MOST_KB}");
    };
    make(&world, COUNT).await;
    check("established");
    use_them(&world, COUNT).await;
    check("with an object");
    ask_for_documents(&world, COUNT).await;
    check("with documents");
}
