//! What expressions cost when they run, and what they are estimated to cost beforehand.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::run;
use corten_cel::{Bindings, Decl, Env, EvalError, Limits, ListKind, Shape, Value};
use serde_json::json;

#[track_caller]
fn costs(expression: &str, wanted: u64) {
    let (shown, cost) = run(expression);
    assert_eq!(cost, wanted, "{expression} = {shown}");
}

#[test]
fn counted() {
    for (expression, wanted) in [
        ("1 + 2", 1),
        ("true && false", 0),
        ("i", 1),
        ("i == 7", 2),
        ("object.spec.replicas == 3", 4),
        ("has(object.spec.replicas)", 2),
        ("object.metadata.labels['a-b']", 4),
        ("s == 'hello'", 2),
        ("[1, 2, 3]", 0),
        ("[i]", 11),
        ("{'a': i}", 31),
        ("nums[0]", 2),
        ("1 in [1, 2, 3]", 0),
        ("1 in nums", 4),
        ("s.startsWith('h')", 2),
        ("s.contains('ll')", 2),
        ("s.matches('h.*o')", 2),
        ("s + s", 3),
        ("size(nums)", 2),
        // Range, then for each element condition and step, then the result.
        ("nums.all(x, x > 0)", 1 + 3 * (2 + 1 + 2) + 1),
        ("nums.exists(x, x == 2)", 1 + 3 * (3 + 1 + 2) + 1),
        ("nums.map(x, x)", 1 + 3 * (1 + 1 + 10 + 1) + 1),
        ("nums.filter(x, x > 1)", 1 + 3 * 2 + 2 * 13 + 1 + 1),
        ("nums.sum()", 1 + 3),
        ("i > 3 ? i : 0", 3),
        ("quantity('50k').isLessThan(quantity('100k'))", 3),
        ("'abc'.replace('a', 'b')", 1),
        ("['aaaaaaaaaa', 'b'].join(' ')", 3),
        ("isURL('https://example.com/')", 1),
        ("'abc'.find('b')", 1),
        ("format.dns1123Label().validate('abc')", 9),
        ("sets.contains([1, 2], [1])", 3),
        ("ip('10.0.0.1').isLoopback()", 2),
        ("cidr('10.0.0.0/8').containsIP('10.0.0.1')", 3),
    ] {
        costs(expression, wanted);
    }
}

/// The environment of the estimates: texts of up to 10 characters, lists of up to 5.
fn bounded() -> Env {
    let text = Arc::new(Decl::new(Shape::String, 40, 2));
    let list = |of: &Arc<Decl>| {
        let shape = Shape::List {
            of: of.clone(),
            kind: ListKind::Plain,
            keys: Vec::new(),
        };
        Arc::new(Decl::new(shape, 5, 2))
    };
    let number = Arc::new(Decl::new(Shape::Int, 0, 1));
    Env::new([("self", list(&text))])
        .with("text", text)
        .with("numbers", list(&number))
}

#[test]
fn estimated() {
    for (expression, min, max) in [
        ("text == 'abc'", 2, 2),
        ("text == text", 3, 6),
        ("text.contains('abc')", 1, 5),
        ("text.matches('abc')", 2, 6),
        ("self.all(x, x == 'a')", 2, 2 + 5 * 5),
        ("numbers.all(x, x > 0)", 2, 2 + 5 * 5),
        ("numbers.map(x, x)", 12, 12 + 5 * 13),
        ("true || text == 'a'", 0, 2),
        ("numbers[0] > 1 ? 1 : 2", 3, 3),
        ("text + text", 2, 10),
        ("text.split(',').size() > 1", 3, 11),
        ("'%s'.format([text]) == 'a'", 13, 13),
        ("self.exists(x, numbers.exists(y, x == string(y)))", 2, 307),
        ("has(text.a) || true", 0, 0),
    ] {
        match bounded().compile(expression) {
            Ok(program) => {
                let own = program.estimate;
                assert_eq!((own.min, own.max), (min, max), "{expression}");
            }
            Err(error) => assert!(error.to_string().contains("field selection"), "{error}"),
        }
    }
}

/// What an expression costs is within its estimate.
#[test]
fn estimates_hold() {
    let env = bounded();
    let (list, text, numbers) = (
        json!(["a", "bb", "0123456789"]),
        json!("0123456789"),
        json!([1, 2, 3]),
    );
    let values = || {
        let bound = [&list, &text, &numbers].map(|json| Some(Value::dynamic(json)));
        Bindings::new(bound.into())
    };
    for expression in [
        "self.all(x, x == text)",
        "self.map(x, x + text).join(',') == text",
        "self.exists(x, x.matches('a+b'))",
        "numbers.filter(x, x > 1).map(x, string(x)).size() > 2",
        "self.exists_one(x, text.contains(x))",
        "self.transformList(i, v, v + string(i)).size() == numbers.sum()",
        "[text + text].all(x, x.startsWith(text))",
        "text.split('').all(c, c in self)",
        "sets.intersects(self, [text])",
        "self.sortBy(x, x).size() == self.distinct().size()",
        "numbers.all(i, v, numbers[i] == v)",
        "{'a': text}.transformMap(k, v, k + v).a == text",
        "'%s'.format([text]).lowerAscii() == text.upperAscii()",
        "optional.of(text).optMap(t, t + t).orValue(text) == text",
    ] {
        let program = env.compile(expression).unwrap_or_else(|error| panic!("{error}"));
        let (value, cost) = program.eval(&values(), Limits::default());
        assert!(value.is_ok(), "{expression}: {value:?}");
        let own = program.estimate;
        assert!(cost <= own.max, "{expression}: {cost} is more than {own:?}");
    }
}

#[test]
fn the_limit_ends_an_evaluation() {
    let env = bounded();
    let numbers = json!((0..1000).collect::<Vec<i64>>());
    let bindings = Bindings::new(vec![None, None, Some(Value::dynamic(&numbers))]);
    let program = env
        .compile("numbers.all(x, numbers.all(y, x + y >= 0) || true)")
        .unwrap();
    let limits = Limits {
        cost: 5_000,
        cancelled: None,
    };
    let (value, cost) = program.eval(&bindings, limits);
    assert_eq!(value.unwrap_err(), EvalError::CostExceeded);
    assert!((5_000..5_100).contains(&cost), "{cost}");
    let asked = AtomicUsize::new(0);
    let cancelled = || asked.fetch_add(1, Ordering::Relaxed) == 3;
    let limits = Limits {
        cost: u64::MAX,
        cancelled: Some(&cancelled),
    };
    assert_eq!(
        program.eval(&bindings, limits).0.unwrap_err(),
        EvalError::Cancelled
    );
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}
