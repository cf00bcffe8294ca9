//! Kubernetes' libraries and CEL's extensions.

mod common;

use common::check;

#[test]
fn strings() {
    for (expression, wanted) in [
        ("'tacocat'.charAt(3)", "\"o\""),
        ("'tacocat'.charAt(7)", "\"\""),
        ("'tacocat'.charAt(8)", "error: index out of range: 8"),
        ("'hello mellow'.indexOf('ello')", "1"),
        ("'hello mellow'.indexOf('ello', 2)", "7"),
        ("'hello mellow'.indexOf('jello')", "-1"),
        ("'hello mellow'.indexOf('')", "0"),
        ("'hello mellow'.lastIndexOf('ello')", "7"),
        ("'hello mellow'.lastIndexOf('ello', 6)", "1"),
        ("['hello', 'mellow'].join()", "\"hellomellow\""),
        ("['hello', 'mellow'].join(' ')", "\"hello mellow\""),
        ("[].join('/')", "\"\""),
        (
            "'TacoCat'.lowerAscii() + 'TacoCÆt Xii'.upperAscii()",
            "\"tacocatTACOCÆT XII\"",
        ),
        ("'hello hello'.replace('he', 'we')", "\"wello wello\""),
        ("'hello hello'.replace('he', 'we', 1)", "\"wello hello\""),
        ("'abc'.replace('', '-')", "\"-a-b-c-\""),
        (
            "'hello hello hello'.split(' ')",
            "[\"hello\",\"hello\",\"hello\"]",
        ),
        ("'hello hello hello'.split(' ', 2)", "[\"hello\",\"hello hello\"]"),
        ("'hello'.split(' ', 0)", "[]"),
        ("'ab'.split('')", "[\"a\",\"b\"]"),
        ("'tacocat'.substring(4)", "\"cat\""),
        ("'tacocat'.substring(0, 4)", "\"taco\""),
        (
            "'tacocat'.substring(5, 2)",
            "error: invalid substring range. start: 5, end: 2",
        ),
        ("'  \\ttrim\\n    '.trim()", "\"trim\""),
        ("'héllo'.substring(1, 2)", "\"é\""),
        (
            "strings.quote('a\\n\"b\"')",
            "\"\\\"a\\\\n\\\\\\\"b\\\\\\\"\\\"\"",
        ),
        ("'abc'.contains('b') && 'abc'.endsWith('bc')", "true"),
        ("'foobar'.matches('^fo+')", "true"),
        ("matches('foobar', 'z')", "false"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn formatting() {
    for (expression, wanted) in [
        ("'%s and %d%%'.format(['a', 5])", "\"a and 5%\""),
        (
            "'%s'.format([[1, 'a', 2.5, true]])",
            "\"[1, \\\"a\\\", 2.500000, true]\"",
        ),
        (
            "'%s'.format([{'b': 1, 'a': 'x'}])",
            "\"{\\\"a\\\":\\\"x\\\", \\\"b\\\":1}\"",
        ),
        ("'%.2f'.format([3.14159])", "\"3.14\""),
        ("'%b %o %x %X'.format([5, 8, 255, 255])", "\"101 10 ff FF\""),
        ("'%x'.format(['hi'])", "\"6869\""),
        ("'%s'.format([null])", "\"null\""),
        ("'%s'.format([duration('90s')])", "\"90s\""),
        (
            "'%d'.format(['a'])",
            "ERROR: <input>:1:14: error during formatting: decimal clause can only be used on integers, was given string\n | '%d'.format(['a'])\n | .............^",
        ),
        (
            "'%s'.format([])",
            "ERROR: <input>:1:12: index 0 out of range\n | '%s'.format([])\n | ...........^",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn lists_and_sets() {
    for (expression, wanted) in [
        ("[1, 2, 3].isSorted()", "true"),
        ("['b', 'a'].isSorted()", "false"),
        ("[1, 2, 3].sum()", "6"),
        ("[1.5, 2.5].sum()", "4.0"),
        ("[duration('1s'), duration('2s')].sum()", "\"3s\""),
        ("[3, 1, 2].min() + [3, 1, 2].max()", "4"),
        ("nums.filter(x, x > 9).max()", "error: max called on empty list"),
        ("[1, 2, 2].indexOf(2) * 10 + [1, 2, 2].lastIndexOf(2)", "12"),
        ("['a'].indexOf('z')", "-1"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2,3]"),
        ("[1].slice(0, 2)", "error: cannot slice(0, 2), list is length 1"),
        ("[[1, 2], [3]].flatten()", "[1,2,3]"),
        ("[dyn(1), dyn([dyn(2), dyn([3])])].flatten(2)", "[1,2,3]"),
        ("lists.range(4)", "[0,1,2,3]"),
        ("[1, 2, 1].distinct()", "[1,2]"),
        ("[1, 2].reverse()", "[2,1]"),
        ("['b', 'a'].sort()", "[\"a\",\"b\"]"),
        ("sets.contains([1, 2, 3], [1, 3])", "true"),
        ("sets.equivalent([1, 2, 2], [2, 1])", "true"),
        ("sets.intersects([1], [2])", "false"),
        ("nums.isSorted()", "false"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn regular_expressions() {
    for (expression, wanted) in [
        ("'abc 123'.find('[0-9]+')", "\"123\""),
        ("'abc'.find('[0-9]+')", "\"\""),
        ("'123 abc 456'.findAll('[0-9]+')", "[\"123\",\"456\"]"),
        ("'123 abc 456'.findAll('[0-9]+', 1)", "[\"123\"]"),
        (
            "'a'.find('(' + s)",
            "error: Illegal regex: error parsing regexp: missing closing ): `(hello`",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn urls() {
    for (expression, wanted) in [
        ("isURL('https://example.com/')", "true"),
        ("isURL('../relative')", "false"),
        ("isURL('/absolute')", "true"),
        (
            "url('https://example.com:80/a/b?k=v&k=w#f').getHost()",
            "\"example.com:80\"",
        ),
        ("url('https://[::1]:80/').getHostname()", "\"::1\""),
        ("url('https://example.com:8080/').getPort()", "\"8080\""),
        ("url('HTTPS://example.com/').getScheme()", "\"https\""),
        ("url('https://e.com/a b/c').getEscapedPath()", "\"/a%20b/c\""),
        (
            "url('https://e.com/?k=v&k=w&x=%20').getQuery()",
            "{\"k\":[\"v\",\"w\"],\"x\":[\" \"]}",
        ),
        ("url('https://a.com/') == url('https://a.com/')", "true"),
        (
            "url('nope')",
            "error: URL parse error during conversion from string: parse \"nope\": invalid URI for request",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn quantities() {
    for (expression, wanted) in [
        ("isQuantity('1.3G')", "true"),
        ("isQuantity('1,3G')", "false"),
        ("quantity('50k').asInteger()", "50000"),
        ("quantity('9999999999999999999').isInteger()", "false"),
        ("quantity('1.5').isInteger()", "false"),
        (
            "quantity('1.5').asInteger()",
            "error: cannot convert value to integer",
        ),
        ("quantity('50m').asApproximateFloat()", "0.05"),
        ("quantity('50k').add(quantity('20k')) == quantity('70k')", "true"),
        ("quantity('50k').sub(20000).compareTo(quantity('30k'))", "0"),
        ("quantity('200M').compareTo(quantity('0.2G'))", "0"),
        ("quantity('50M').isLessThan(quantity('100M'))", "true"),
        ("quantity('150Mi').isGreaterThan(quantity('100Mi'))", "true"),
        ("sign(quantity('-1'))", "-1"),
        ("type(quantity('1'))", "kubernetes.Quantity"),
        (
            "quantity('x')",
            "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn addresses() {
    for (expression, wanted) in [
        ("isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.256')", "true"),
        ("ip('192.168.0.1').family() + ip('::1').family()", "10"),
        ("ip.isCanonical('2001:db8::abcd')", "true"),
        ("ip.isCanonical('2001:DB8::ABCD')", "false"),
        ("string(ip('2001:DB8::ABCD'))", "\"2001:db8::abcd\""),
        ("ip('127.0.0.1') == ip('127.0.0.1')", "true"),
        (
            "ip('0.0.0.0').isUnspecified() && ip('127.0.0.1').isLoopback()",
            "true",
        ),
        (
            "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast()",
            "true",
        ),
        (
            "ip('169.254.1.1').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
            "true",
        ),
        (
            "ip('8.8.8.8').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast()",
            "true",
        ),
        (
            "ip('::ffff:1.2.3.4')",
            "error: IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed",
        ),
        ("isCIDR('192.168.0.0/24') && !isCIDR('192.168.0.0/33')", "true"),
        ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", "true"),
        ("cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))", "false"),
        ("cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25')", "true"),
        (
            "cidr('192.168.0.0/25').containsCIDR(cidr('192.168.0.0/24'))",
            "false",
        ),
        ("string(cidr('192.168.0.5/24').masked())", "\"192.168.0.0/24\""),
        ("cidr('::1/128').prefixLength()", "128"),
        ("cidr('10.1.0.0/8').ip() == ip('10.1.0.0')", "true"),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn versions() {
    for (expression, wanted) in [
        (
            "isSemver('1.0.0') && !isSemver('v1.0') && !isSemver('200K')",
            "true",
        ),
        ("isSemver('v1.0', true)", "true"),
        (
            "semver('1.2.3').major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()",
            "123",
        ),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", "true"),
        ("semver('1.0.0').isGreaterThan(semver('1.0.0-alpha.1'))", "true"),
        (
            "semver('1.0.0-alpha.2').compareTo(semver('1.0.0-alpha.10'))",
            "-1",
        ),
        ("semver('v01.01', true) == semver('1.1.0')", "true"),
        ("semver('1.0.0+a') == semver('1.0.0+b')", "true"),
        ("semver('1.0')", "error: No Major.Minor.Patch elements found"),
        (
            "semver('01.0.0')",
            "error: Major number must not contain leading zeroes \"01\"",
        ),
    ] {
        check(expression, wanted);
    }
}

#[test]
fn named_formats() {
    for (expression, wanted) in [
        ("format.dns1123Label().validate('my-name')", "none"),
        ("format.dns1123Label().validate('My').hasValue()", "true"),
        ("format.dns1123LabelPrefix().validate('my-name-')", "none"),
        ("format.dns1123Subdomain().validate('a.b')", "none"),
        ("format.dns1035Label().validate('1a').hasValue()", "true"),
        ("format.qualifiedName().validate('example.com/name')", "none"),
        ("format.labelValue().validate('-').hasValue()", "true"),
        ("format.uri().validate('http://example.com')", "none"),
        (
            "format.uuid().validate('x')",
            "optional([\"does not match the UUID format\"])",
        ),
        (
            "format.uuid().validate('123e4567-e89b-12d3-a456-426614174000')",
            "none",
        ),
        ("format.byte().validate('aGVsbG8=')", "none"),
        (
            "format.date().validate('2021-13-01')",
            "optional([\"invalid date\"])",
        ),
        ("format.datetime().validate('2021-01-01T00:00:00Z')", "none"),
        (
            "format.named('uuid').hasValue() && !format.named('nope').hasValue()",
            "true",
        ),
        ("format.named('date').value().validate('2021-01-01')", "none"),
    ] {
        check(expression, wanted);
    }
}
