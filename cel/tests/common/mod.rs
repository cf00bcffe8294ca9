//! What the tables share: an environment with an object in it, and one line for what became of an expression.
#![allow(dead_code, reason = "no table uses all of it")]

use std::sync::Arc;

use corten_cel::{Bindings, Decl, Env, Limits, Type, Value};
use serde_json::{Value as Json, json};

/// `object` is dynamic, `self` typed.
pub fn env() -> Env {
    let of = |ty: Type| Arc::new(Decl::of(ty));
    Env::new([("object", Arc::new(Decl::DYN))])
        .with("s", of(Type::String))
        .with("i", of(Type::Int))
        .with("nums", of(Type::list(Type::Int)))
        .with("m", of(Type::map(Type::String, Type::Int)))
}

pub fn object() -> Json {
    json!({
        "metadata": {"name": "web", "labels": {"app": "x", "a-b": "y"}},
        "spec": {"replicas": 3, "ratio": 0.5, "names": ["a", "b"], "nothing": null, "items": [{"k": 1}, {"k": 2}]}
    })
}

/// The value as JSON, `error: …` when it has none, or what the compiler says.
pub fn shown(expression: &str) -> String {
    run(expression).0
}

/// What became of an expression, and its cost.
pub fn run(expression: &str) -> (String, u64) {
    let env = env();
    let program = match env.compile(expression) {
        Ok(program) => program,
        Err(error) => return (error.to_string(), 0),
    };
    let object = object();
    let (s, i, list, m) = (
        json!("hello"),
        json!(7),
        json!([3, 1, 2]),
        json!({"a": 1, "b": 2}),
    );
    let values = [&object, &s, &i, &list, &m];
    let decls: Vec<Decl> = [
        Type::Dyn,
        Type::String,
        Type::Int,
        Type::list(Type::Int),
        Type::map(Type::String, Type::Int),
    ]
    .into_iter()
    .map(Decl::of)
    .collect();
    let bound = values
        .iter()
        .zip(&decls)
        .map(|(json, decl)| Some(Value::from_json(json, decl).unwrap()))
        .collect();
    let bindings = Bindings::new(bound);
    let (value, cost) = program.eval(&bindings, Limits::default());
    (show(value), cost)
}

pub fn show(value: corten_cel::Eval<Value<'_>>) -> String {
    match value {
        Err(error) => format!("error: {error}"),
        Ok(Value::Optional(Some(own))) => format!("optional({})", show(Ok((*own).clone()))),
        Ok(Value::Optional(None)) => "none".to_owned(),
        Ok(Value::Type(own)) => own.to_string(),
        Ok(own) => match own.to_json() {
            Ok(json) => json.to_string(),
            Err(_) => own.ty().to_string(),
        },
    }
}

#[track_caller]
pub fn check(expression: &str, wanted: &str) {
    assert_eq!(shown(expression), wanted, "{expression}");
}
