//! The language itself: operators, macros, optional values, errors.

mod common;

use common::check;

#[test]
fn values() {
    for (expression, wanted) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("-5 % 3", "-2"),
        ("7 / 2", "3"),
        ("7.0 / 2.0", "3.5"),
        ("1u + 2u", "3"),
        ("0x1F", "31"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("'a' + \"b\"", "\"ab\""),
        ("r'\\d' == '\\\\d'", "true"),
        ("'''a'b'''", "\"a'b\""),
        ("'\\u00e9\\x41\\101'", "\"éAA\""),
        ("b'abc' == bytes('abc')", "true"),
        ("size('héllo')", "5"),
        ("[1, 2] + [3]", "[1,2,3]"),
        ("[1, 2, 3][1]", "2"),
        ("{'a': 1}['a']", "1"),
        ("{'a': 1}.a", "1"),
        ("2 in [1, 2]", "true"),
        (
            "dyn(2.0) in [1, 2] && !(dyn('2') in [1, 2]) && !(dyn(1.5) in [1, 2])",
            "true",
        ),
        ("1.5 in [1.5, 2.0] && 's' in ['s', 't']", "true"),
        ("'x' in {'x': 1}", "true"),
        ("'y' in m", "false"),
        ("dyn(1) == 1.0", "true"),
        ("dyn(1u) == 1", "true"),
        ("dyn(1) == 'a'", "false"),
        ("1 < 1.5", "true"),
        ("'a' < 'b'", "true"),
        ("true ? 1 : 2", "1"),
        ("!true || !false", "true"),
        ("null == null", "true"),
        ("type(1) == int", "true"),
        ("type('a')", "string"),
        ("type({}) == map", "true"),
        ("type(timestamp(0)) == google.protobuf.Timestamp", "true"),
        ("{1: 'a', 2: 'b'}[2]", "\"b\""),
        ("object.spec.replicas + 1", "4"),
        ("object.spec.ratio * 2.0", "1.0"),
        ("object.metadata.labels['a-b']", "\"y\""),
        ("object.spec.nothing == null", "true"),
        ("has(object.spec.replicas) && !has(object.spec.missing)", "true"),
        ("i + nums[0] + m.a", "11"),
        ("size(nums) + nums.size()", "6"),
        ("// a comment\n1", "1"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn macros() {
    for (expression, wanted) in [
        ("[1, 2, 3].all(x, x > 0)", "true"),
        ("[1, 2, 3].exists(x, x == 2)", "true"),
        ("[1, 2, 2].exists_one(x, x == 2)", "false"),
        ("[1, 2, 3].map(x, x * 2)", "[2,4,6]"),
        ("[1, 2, 3].map(x, x > 1, x * 2)", "[4,6]"),
        ("[1, 2, 3].filter(x, x != 2)", "[1,3]"),
        ("m.all(k, m[k] > 0)", "true"),
        ("m.map(k, k)", "[\"a\",\"b\"]"),
        ("[[1, 2], [3]].map(x, x.map(y, y + 1))", "[[2,3],[4]]"),
        ("[0, 1].exists(x, 1 / x > 0)", "true"),
        ("[1, 0].all(x, 1 / x > 2)", "false"),
        ("[0].all(x, 1 / x > 2)", "error: division by zero"),
        ("object.spec.items.map(x, x.k)", "[1,2]"),
        ("[5, 6].all(i, v, i < v)", "true"),
        ("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true"),
        ("[1, 1].existsOne(i, v, v == 1)", "false"),
        ("[10, 20].transformList(i, v, i + v)", "[10,21]"),
        ("[10, 20].transformList(i, v, i > 0, v)", "[20]"),
        (
            "{'a': 1, 'b': 2}.transformMap(k, v, v * 10)",
            "{\"a\":10,\"b\":20}",
        ),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v)", "{\"b\":2}"),
        ("{'a': 'x'}.transformMapEntry(k, v, {v: k})", "{\"x\":\"a\"}"),
        (
            "['a', 'a'].transformMapEntry(i, v, {v: i})",
            "error: insert failed: key a already exists",
        ),
        ("[3, 1, 2].sortBy(x, -x)", "[3,2,1]"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn optional_values() {
    for (expression, wanted) in [
        ("object.?spec.?replicas", "optional(3)"),
        ("object.?spec.missing.deeper", "none"),
        ("object.?missing.orValue(5)", "5"),
        ("object.spec.?names[0].orValue('z')", "\"a\""),
        ("[1, 2][?5]", "none"),
        ("[1, 2][?1].value()", "2"),
        ("m[?'a'].hasValue()", "true"),
        ("optional.none().or(optional.of(2)).value()", "2"),
        ("optional.of(1).orValue(1 / 0)", "1"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("optional.of(2).optMap(x, x * 2)", "optional(4)"),
        ("optional.none().optMap(x, x)", "none"),
        ("optional.of(2).optFlatMap(x, optional.of(x + 1))", "optional(3)"),
        ("[1, ?optional.none(), ?optional.of(3)]", "[1,3]"),
        ("{'a': 1, ?'b': m[?'z']}", "{\"a\":1}"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
        ("[1, 2].first()", "optional(1)"),
        ("[].last()", "none"),
        ("has(object.?spec.replicas)", "true"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn conversions_and_times() {
    for (expression, wanted) in [
        ("int('12') + int(3.9) + int(2u)", "17"),
        ("int('x')", "type conversion error from 'string' to 'int'"),
        ("uint(-1)", "unsigned integer overflow"),
        ("int(1e30)", "integer overflow"),
        ("double('1.5')", "1.5"),
        (
            "string(1.0) + string(1000000.0) + string(0.00001)",
            "\"11e+061e-05\"",
        ),
        ("string(true) + string(12) + string(b'x')", "\"true12x\""),
        ("bool('true')", "true"),
        ("string(duration('90m'))", "\"5400s\""),
        ("duration('1h30m') + duration('1.5s')", "\"5401.5s\""),
        ("duration('1h').getMinutes()", "60"),
        ("timestamp('2020-01-02T03:04:05Z').getFullYear()", "2020"),
        ("timestamp('2020-01-02T03:04:05Z').getDayOfWeek()", "4"),
        ("timestamp('2020-01-02T03:04:05.678Z').getMilliseconds()", "678"),
        ("timestamp('2020-01-02T03:04:05Z').getHours('+02:00')", "5"),
        (
            "timestamp('2020-01-02T03:04:05Z').getHours('America/New_York')",
            "22",
        ),
        (
            "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z')",
            "\"86400s\"",
        ),
        (
            "timestamp('2020-01-01T00:00:00Z') + duration('24h')",
            "\"2020-01-02T00:00:00Z\"",
        ),
        ("int(timestamp(5))", "5"),
        ("dyn('a') + 1", "error: no such overload"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn what_fails_when_it_runs() {
    for (expression, wanted) in [
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("object.missing", "error: no such key: missing"),
        ("m['zz']", "error: no such key: zz"),
        ("nums[3]", "error: index out of bounds: 3"),
        ("false && 1 / 0 == 1", "false"),
        ("1 / 0 == 1 && false", "false"),
        ("1 / 0 == 1 || true", "true"),
        ("object.spec.replicas.x", "error: no such key: x"),
        ("{'a': 1, 'a': 2}", "{\"a\":2}"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn what_does_not_compile() {
    for (expression, wanted) in [
        (
            "missing > 1",
            "ERROR: <input>:1:1: undeclared reference to 'missing' (in container '')\n | missing > 1\n | ^",
        ),
        (
            "f(1)",
            "ERROR: <input>:1:2: undeclared reference to 'f' (in container '')\n | f(1)\n | .^",
        ),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "s.startsWith(1)",
            "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'string.(int)'\n | s.startsWith(1)\n | ............^",
        ),
        (
            "s.x",
            "ERROR: <input>:1:2: type 'string' does not support field selection\n | s.x\n | .^",
        ),
        (
            "[1, 'a']",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^",
        ),
        (
            "s.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)\n | s.all(x, true)\n | ^",
        ),
        (
            "nums.all(1, true)",
            "ERROR: <input>:1:10: argument must be a simple name\n | nums.all(1, true)\n | .........^",
        ),
        (
            "s == 1",
            "ERROR: <input>:1:3: found no matching overload for '_==_' applied to '(string, int)'\n | s == 1\n | ..^",
        ),
        (
            "true &&\n  i",
            "ERROR: <input>:1:6: found no matching overload for '_&&_' applied to '(bool, int)'\n | true &&\n | .....^",
        ),
        (
            "i +",
            "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | i +\n | ...^",
        ),
        (
            "'\\",
            "ERROR: <input>:1:1: Syntax error: token recognition error at: ''\\'\n | '\\\n | ^",
        ),
        (
            "has(s)",
            "ERROR: <input>:1:5: invalid argument to has() macro\n | has(s)\n | ....^",
        ),
        (
            "for + 1",
            "ERROR: <input>:1:1: reserved identifier: for\n | for + 1\n | ^",
        ),
        (
            "s.matches('[')",
            "ERROR: <input>:1:11: invalid matches argument\n | s.matches('[')\n | ..........^",
        ),
        (
            "duration('x')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^",
        ),
        (
            "a + b",
            "ERROR: <input>:1:1: undeclared reference to 'a' (in container '')\n | a + b\n | ^\nERROR: <input>:1:5: undeclared reference to 'b' (in container '')\n | a + b\n | ....^",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn bounds_of_the_text() {
    let deep = format!("{}1{}", "(".repeat(500), ")".repeat(500));
    let wide = vec!["1"; 30_000].join("+");
    let copies = format!("optional.of(1){}", ".optMap(x, x)".repeat(60));
    let flat = vec!["true"; 10_000].join("&&");
    for text in [&deep, &wide, &copies] {
        let shown = common::shown(text);
        assert!(shown.contains("limit exceeded"), "{}", &shown[..100]);
    }
    assert!(common::shown(&"1".repeat(100_001)).contains("expression code point size exceeds limit"));
    check(&flat, "true");
}
