//! How long rules take and what they hold: `cargo run --release -p corten-cel --example rules`.

use std::sync::Arc;
use std::time::Instant;

use corten_cel::{Bindings, Decl, Env, Field, Limits, ListKind, Object, Shape, Type, Value};
use serde_json::json;

fn object(name: &str, fields: Vec<(&str, Arc<Decl>)>) -> Arc<Decl> {
    let fields = fields
        .into_iter()
        .map(|(name, decl)| {
            (
                name.to_owned(),
                Field {
                    json: name.into(),
                    decl,
                },
            )
        })
        .collect();
    let object = Object {
        name: name.into(),
        fields,
        open: false,
    };
    Arc::new(Decl::new(Shape::Object(Arc::new(object)), 0, 2))
}

/// Microseconds of one of `count` runs, in the fastest of many rounds: what else the machine does is not counted.
fn fastest(count: u32, mut act: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..50 {
        let started = Instant::now();
        for _ in 0..count {
            act();
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    }
    best
}

fn main() {
    let of = |ty: Type| Arc::new(Decl::of(ty));
    let item = object(
        "item",
        vec![("name", of(Type::String)), ("weight", of(Type::Int))],
    );
    let items = Arc::new(Decl::new(
        Shape::List {
            of: item,
            kind: ListKind::Plain,
            keys: Vec::new(),
        },
        100,
        2,
    ));
    let spec = object(
        "spec",
        vec![
            ("min", of(Type::Int)),
            ("max", of(Type::Int)),
            ("name", of(Type::String)),
            ("items", items),
        ],
    );
    let env = Env::new([("self", spec.clone())]);
    let data = json!({"min": 1, "max": 5, "name": "web-1",
        "items": (0..10).map(|n| json!({"name": format!("n{n}"), "weight": n})).collect::<Vec<_>>()});
    println!(
        "{:<62} {:>10} {:>10} {:>8}",
        "rule", "compile us", "run us", "cost"
    );
    for rule in [
        "self.min <= self.max",
        "self.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "self.items.all(x, x.weight >= 0 && x.name.size() < 10)",
        "self.items.map(x, x.weight).sum() < 1000",
        "quantity('1Gi').isGreaterThan(quantity('500Mi'))",
    ] {
        let compile = fastest(100, || {
            drop(std::hint::black_box(
                env.compile(rule).expect("the rule compiles"),
            ))
        });
        let program = env.compile(rule).expect("the rule compiles");
        let bindings = Bindings::new(vec![Value::from_json(&data, &spec).ok()]);
        let mut cost = 0;
        let run = fastest(2_000, || {
            let (value, own) = program.eval(&bindings, Limits::default());
            assert!(matches!(value, Ok(Value::Bool(true))), "{value:?}");
            cost = own;
        });
        println!("{rule:<62} {compile:>10.1} {run:>10.2} {cost:>8}");
    }
}
