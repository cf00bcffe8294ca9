//! CEL: whatever the text, compiling and running it ends soon and within its limits; what runs costs no more than estimated.
#![no_main]

use std::sync::{Arc, LazyLock};

use corten_cel::{Bindings, Decl, Env, EvalError, Limits, Type, Value};
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};

static OBJECT: LazyLock<Json> = LazyLock::new(|| {
    json!({"a": "text", "n": 5, "list": [1, 2, 3], "map": {"k": "v"}, "nothing": null, "deep": [[{"x": 1.5}]]})
});
static LIST: LazyLock<Json> = LazyLock::new(|| json!(["a", "bb", "ccc"]));

static ENV: LazyLock<Env> = LazyLock::new(|| {
    Env::new([("object", Arc::new(Decl::DYN))])
        .with("list", Arc::new(Decl::of(Type::list(Type::String))))
        .with("n", Arc::new(Decl::of(Type::Int)))
        .with_constructors()
});

/// What reads a text costs by its length when it runs, and one in upstream's estimates.
const READERS: [&str; 4] = ["ip", "cidr", "quantity", "semver"];

/// Most cost of a run here: a fraction of a second even under instrumentation.
const COST: u64 = 50_000;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let env = &*ENV;
    let program = match bounded(text.len(), 64 << 10, || env.compile(text)) {
        Ok(program) => program,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let bindings = Bindings::new(vec![
        Some(Value::dynamic(&OBJECT)),
        Some(Value::dynamic(&LIST)),
        Some(Value::Int(7)),
    ]);
    let limits = Limits {
        cost: COST,
        cancelled: None,
    };
    let (value, cost) = program.eval(&bindings, limits);
    // A field of something dynamic costs one that upstream does not estimate.
    let most = program.estimate.max.saturating_mul(2);
    let reads = READERS.iter().any(|name| text.to_lowercase().contains(name));
    assert!(cost <= most || reads || value.is_err(), "{cost} is more than {most}");
    match value {
        Ok(value) => drop(value.to_json()),
        Err(EvalError::CostExceeded) => assert!(cost > COST),
        Err(error) => drop(error.to_string()),
    }
    // The same once more is the same.
    let again = env.compile(text).expect("what compiled compiles again");
    assert_eq!(again.ty, program.ty);
});
