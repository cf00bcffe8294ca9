//! Expressions made at random, half of them sensible: none panics, none runs beyond its limits, none costs more than estimated.
//!
//! `CEL_RANDOM=n` runs n of them instead of a thousand; `CEL_SEED` picks others.

use std::sync::Arc;

use corten_cel::{Bindings, Decl, Env, EvalError, Limits, ListKind, Shape, Type, Value};
use serde_json::json;

const COST: u64 = 20_000;

/// Marsaglia's xorshift: enough to pick with.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const NUMBERS: [&str; 9] = [
    "1",
    "0",
    "-1",
    "n",
    "2.5",
    "3u",
    "9223372036854775807",
    "x",
    "object.n",
];
const TEXTS: [&str; 8] = [
    "text",
    "'a'",
    "''",
    "'é%s'",
    "object.a",
    "x",
    "r'(a|b)*'",
    "string(n)",
];
const LISTS: [&str; 8] = [
    "list",
    "numbers",
    "[]",
    "[1, 2]",
    "['a', text]",
    "object.list",
    "[[n]]",
    "lists.range(3)",
];
const MAPS: [&str; 5] = [
    "map",
    "{}",
    "{'a': n}",
    "object",
    "{n: text, ?2: optional.of('z')}",
];

/// An expression of about a kind: number, text, list, map, truth, anything.
fn make(random: &mut Random, kind: usize, depth: usize) -> String {
    if depth == 0 {
        return match kind {
            0 => random.pick(&NUMBERS),
            1 => random.pick(&TEXTS),
            2 => random.pick(&LISTS),
            3 => random.pick(&MAPS),
            4 => random.pick(&["true", "false", "n > 1", "has(object.a)"]),
            _ => random.pick(&[
                "null",
                "optional.none()",
                "object.missing",
                "timestamp(0)",
                "duration('1h')",
                "b'x'",
                "ip('::1')",
                "int",
            ]),
        }
        .to_owned();
    }
    // Now and then something of another kind, to be refused.
    let sub = |random: &mut Random, own: usize| {
        let own = if random.below(15) == 0 {
            random.below(6)
        } else {
            own
        };
        make(random, own, depth - 1)
    };
    let (a, b, c) = (sub(random, kind), sub(random, kind), sub(random, 4));
    let (number, text, list, map) = (sub(random, 0), sub(random, 1), sub(random, 2), sub(random, 3));
    match (kind, random.below(9)) {
        (_, 0) => format!("({c} ? {a} : {b})"),
        (_, 1) => format!("[{a}].map(x, {b})[0]"),
        (0, 2) => format!("{list}.sum()"),
        (0, 3) => format!("{text}.size()"),
        (0, 4) => format!("int({text})"),
        (0, 5) => format!("{list}[{number}]"),
        (0, _) => format!("{a} {} {b}", random.pick(&["+", "-", "*", "/", "%"])),
        (1, 2) => format!("{text}.replace({a}, {b})"),
        (1, 3) => format!("'%s %d'.format([{a}, {number}])"),
        (1, 4) => format!("{text}.substring({number})"),
        (1, 5) => format!("{list}.map(x, string(x)).join({a})"),
        (1, 6) => format!("{text}.find({a})"),
        (1, _) => format!("{a} + {b}"),
        (2, 2) => format!("{list}.map(x, {number})"),
        (2, 3) => format!("{list}.filter(x, {c})"),
        (2, 4) => format!(
            "{list}.{}",
            random.pick(&["sort()", "reverse()", "distinct()", "flatten()", "slice(0, 1)"])
        ),
        (2, 5) => format!("{text}.split({a})"),
        (2, 6) => format!("{map}.transformList(k, x, {number})"),
        (2, _) => format!("{a} + {b}"),
        (3, 2) => format!("{map}.transformMap(k, x, {a})"),
        (3, 3) => format!("{list}.transformMapEntry(k, x, {{k: {number}}})"),
        (3, _) => format!("{{{text}: {a}}}"),
        (4, 2) => format!("{list}.all(x, {c})"),
        (4, 3) => format!("{list}.exists(k, x, {c})"),
        (4, 4) => format!("{number} in {list}"),
        (4, 5) => format!("{text}.matches({})", random.pick(&TEXTS)),
        (4, 6) => format!("{a} {} {b}", random.pick(&["&&", "||"])),
        (4, _) => format!("{number} {} {number}", random.pick(&["==", "<", ">=", "!="])),
        (_, 2) => format!("{map}.?a.orValue({a})"),
        (_, 3) => format!("{list}[?{number}].optMap(x, {a})"),
        (_, 4) => format!("[{a}, {b}]"),
        (_, 5) => format!("{map}.a"),
        _ => format!("dyn({a}) == {b}"),
    }
}

/// Breaks a text somewhere.
fn damage(random: &mut Random, text: &mut String) {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let at = places[random.below(places.len())];
    match random.below(3) {
        0 => drop(text.remove(at)),
        1 => text.insert_str(
            at,
            random.pick(&[
                "(", ")", "[", "}", "'", "\\", ".", "?", "1e9", "é", "@", "\n", " in ",
            ]),
        ),
        _ => text.truncate(at),
    }
}

#[test]
fn nothing_panics_and_nothing_runs_away() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |own| own.parse().unwrap());
    let mut random = Random(number("CEL_SEED", 0x9e37_79b9_7f4a_7c15));
    let of = |ty: Type| Arc::new(Decl::of(ty));
    let text = Arc::new(Decl::new(Shape::String, 12, 2));
    let bounded = |of: &Arc<Decl>, max| {
        let shape = Shape::List {
            of: of.clone(),
            kind: ListKind::Set,
            keys: Vec::new(),
        };
        Arc::new(Decl::new(shape, max, 2))
    };
    let env = Env::new([("object", Arc::new(Decl::DYN))])
        .with("text", text.clone())
        .with("n", of(Type::Int))
        .with("list", bounded(&text, 4))
        .with("numbers", bounded(&of(Type::Int), 4))
        .with("map", of(Type::map(Type::String, Type::Int)))
        .with("x", Arc::new(Decl::DYN));
    let object = json!({"a": "text", "n": 5, "list": [1, 2, "3"], "map": {"k": "v"}});
    let (list, numbers, map) = (json!(["a", "bb"]), json!([3, 1]), json!({"a": 1, "b": 2}));
    let bindings = Bindings::new(vec![
        Some(Value::dynamic(&object)),
        Some(Value::str("some text")),
        Some(Value::Int(3)),
        Some(Value::dynamic(&list)),
        Some(Value::dynamic(&numbers)),
        Some(Value::dynamic(&map)),
    ]);
    let (mut compiled, mut valued) = (0, 0);
    let count = number("CEL_RANDOM", 1_000);
    for _ in 0..count {
        let (kind, depth) = (random.below(6), 1 + random.below(4));
        let mut source = make(&mut random, kind, depth);
        if random.below(4) == 0 {
            damage(&mut random, &mut source);
        }
        let program = match env.compile(&source) {
            Ok(program) => program,
            Err(error) => {
                let placed = error.to_string().starts_with("ERROR: <input>:");
                assert!(placed || error.stage() != "compilation", "{source}: {error}");
                continue;
            }
        };
        compiled += 1;
        let limits = Limits {
            cost: COST,
            cancelled: None,
        };
        let (value, cost) = program.eval(&bindings, limits);
        match value {
            Ok(value) => {
                valued += 1;
                // A field of something dynamic costs one that upstream does not estimate.
                let most = program.estimate.max.saturating_mul(2);
                assert!(cost <= most, "{source}: {cost} is more than {most}");
                drop(value.to_json());
            }
            Err(EvalError::CostExceeded) => assert!(cost > COST, "{source}"),
            Err(error) => assert!(!error.to_string().is_empty(), "{source}"),
        }
    }
    assert!(
        compiled > count / 8 && valued > count / 20,
        "{compiled} compiled, {valued} had a value"
    );
}
