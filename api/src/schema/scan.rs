//! A JSON scanner over bytes: tokens, skipping, Go's syntax errors. Linear in time, bounded in depth.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::error::SyntaxError;

/// Deeper nesting is refused, as upstream's decoder does.
pub const MAX_DEPTH: usize = 10_000;
/// Nesting kept as values (schemaless parts); deeper is refused so that no walk over them recurses far.
pub const MAX_KEPT_DEPTH: usize = 500;
/// Nesting of what is stored: an object as deep as it may be, and who manages its deepest field.
const MAX_STORED_DEPTH: usize = MAX_KEPT_DEPTH + 50;

pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

/// What kind of value starts here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Start {
    /// Go's word for it in type errors.
    pub fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Number => "number",
            Self::True | Self::False => "bool",
            Self::Null => "null",
        }
    }
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    /// Where the next token begins, once [`Scanner::start`] has looked.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes read since a position.
    pub fn since(&self, position: usize) -> &'a [u8] {
        &self.bytes[position..self.at]
    }

    fn white(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn error<T>(&self, context: impl Into<String>) -> Result<T> {
        match self.bytes.get(self.at) {
            None => Err(SyntaxError::End),
            Some(_) => {
                let rest = &self.bytes[self.at..self.bytes.len().min(self.at + 4)];
                // Go looks at bytes: anything beyond ASCII shows as its first byte.
                let found = match std::str::from_utf8(rest) {
                    Ok(text) => text.chars().next().unwrap_or('\u{fffd}'),
                    Err(_) => rest[0] as char,
                };
                let found = if found.is_ascii() { found } else { rest[0] as char };
                Err(SyntaxError::Character {
                    found,
                    context: context.into(),
                })
            }
        }
    }

    /// What value comes next.
    pub fn start(&mut self) -> Result<Start> {
        self.white();
        Ok(match self.bytes.get(self.at) {
            Some(b'{') => Start::Object,
            Some(b'[') => Start::Array,
            Some(b'"') => Start::String,
            Some(b'-' | b'0'..=b'9') => Start::Number,
            Some(b't') => Start::True,
            Some(b'f') => Start::False,
            Some(b'n') => Start::Null,
            _ => return self.error("looking for beginning of value"),
        })
    }

    /// After the last value: nothing but white space may follow.
    pub fn end(&mut self) -> Result<()> {
        self.white();
        if self.at < self.bytes.len() {
            self.error("after top-level value")
        } else {
            Ok(())
        }
    }

    /// Consumes `{` or `[`.
    pub fn open(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(SyntaxError::Depth);
        }
        self.at += 1;
        Ok(())
    }

    /// The next key of an object, or `None` at its end. `first` before the first key.
    pub fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>> {
        self.white();
        match self.bytes.get(self.at) {
            Some(b'}') => {
                // `{"a":1,}` is refused below, for the comma has been consumed by then.
                self.at += 1;
                self.depth -= 1;
                return Ok(None);
            }
            Some(b',') if !first => {
                self.at += 1;
                self.white();
            }
            Some(_) if !first => return self.error("after object key:value pair"),
            _ => {}
        }
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.error("looking for beginning of object key string");
        }
        let key = self.string()?;
        self.white();
        if self.bytes.get(self.at) != Some(&b':') {
            return self.error("after object key");
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// True when another element of an array follows, false at its end. `first` before the first element.
    pub fn element(&mut self, first: bool) -> Result<bool> {
        self.white();
        match self.bytes.get(self.at) {
            Some(b']') => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                self.white();
                if self.bytes.get(self.at) == Some(&b']') {
                    return self.error("looking for beginning of value");
                }
                Ok(true)
            }
            Some(_) if !first => self.error("after array element"),
            _ => Ok(true),
        }
    }

    /// Consumes a string, unescaped; bad UTF-8 becomes U+FFFD.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = String::from_utf8_lossy(&self.bytes[start..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..=0x1f) | None => return self.error("in string literal"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escaped(&mut self, start: usize) -> Result<String> {
        let mut out = self.bytes[start..self.at].to_vec();
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(match String::from_utf8(out) {
                        Ok(text) => text,
                        Err(bad) => String::from_utf8_lossy(bad.as_bytes()).into_owned(),
                    });
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = match self.bytes.get(self.at) {
                        Some(c @ (b'"' | b'\\' | b'/')) => *c as char,
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(b'u') => self.unicode()?,
                        _ => return self.error("in string escape code"),
                    };
                    self.at += 1;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(0..=0x1f) | None => return self.error("in string literal"),
                Some(b) => {
                    out.push(*b);
                    self.at += 1;
                }
            }
        }
    }

    /// At the `u` of an escape; ends on its last digit.
    fn unicode(&mut self) -> Result<char> {
        let high = self.hex4()?;
        if let Some(c) = char::from_u32(high) {
            return Ok(c);
        }
        // A surrogate: a pair makes one character, anything else is replaced as Go does.
        let mark = self.at;
        if self.bytes[self.at + 1..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex4()?;
            if (0xd800..0xdc00).contains(&high) && (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            self.at = mark;
        }
        Ok('\u{fffd}')
    }

    fn hex4(&mut self) -> Result<u32> {
        let mut code = 0;
        for _ in 0..4 {
            self.at += 1;
            match self.bytes.get(self.at).and_then(|b| (*b as char).to_digit(16)) {
                Some(digit) => code = code * 16 + digit,
                None => return self.error("in \\u hexadecimal character escape"),
            }
        }
        Ok(code)
    }

    /// Consumes a number; its text.
    pub fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.error("in numeric literal"),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return self.error("after decimal point in numeric literal");
            }
            self.digits();
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return self.error("in exponent of numeric literal");
            }
            self.digits();
        }
        Ok(std::str::from_utf8(&self.bytes[start..self.at]).expect("digits and signs are ASCII"))
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Consumes `true`, `false` or `null`.
    pub fn word(&mut self, start: Start) -> Result<()> {
        let word = match start {
            Start::True => "true",
            Start::False => "false",
            _ => "null",
        };
        for want in word.chars() {
            if self.bytes.get(self.at) != Some(&(want as u8)) {
                return self.error(format!("in literal {word} (expecting '{want}')"));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Consumes any value without keeping it. Does not recurse, so depth costs no stack.
    pub fn skip(&mut self) -> Result<()> {
        // One entry per open container: true for objects; the flag beside it says nothing was read yet.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let start = self.start()?;
            let mut first = false;
            match start {
                Start::Object | Start::Array => {
                    self.open()?;
                    open.push(start == Start::Object);
                    first = true;
                }
                Start::String => drop(self.string()?),
                Start::Number => drop(self.number()?),
                word => self.word(word)?,
            }
            loop {
                let Some(object) = open.last() else { return Ok(()) };
                let more = if *object {
                    self.key(first)?.is_some()
                } else {
                    self.element(first)?
                };
                first = false;
                if more {
                    break;
                }
                open.pop();
            }
        }
    }

    /// Consumes any value and keeps it. The last of repeated keys wins.
    pub fn any(&mut self) -> Result<Value> {
        self.any_within(MAX_KEPT_DEPTH)
    }

    /// `depth`: how many containers may be within this value.
    fn any_within(&mut self, depth: usize) -> Result<Value> {
        let below = || depth.checked_sub(1).ok_or(SyntaxError::Depth);
        Ok(match self.start()? {
            Start::Object => {
                self.open()?;
                let mut map = Map::new();
                let mut first = true;
                while let Some(key) = self.key(first)? {
                    first = false;
                    map.insert(key.into_owned(), self.any_within(below()?)?);
                }
                Value::Object(map)
            }
            Start::Array => {
                self.open()?;
                let mut list = Vec::new();
                let mut first = true;
                while self.element(first)? {
                    first = false;
                    list.push(self.any_within(below()?)?);
                }
                Value::Array(list)
            }
            Start::String => Value::String(self.string()?.into_owned()),
            Start::Number => number_value(self.number()?),
            start => {
                self.word(start)?;
                match start {
                    Start::Null => Value::Null,
                    start => Value::Bool(start == Start::True),
                }
            }
        })
    }
}

/// A number as JSON keeps it: whole where it fits 64 bits, else floating.
fn number_value(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    let double = text.parse::<f64>().unwrap_or_default();
    Number::from_f64(double).map_or(Value::Null, Value::Number)
}

/// Reads any JSON document.
///
/// # Errors
/// Go's syntax errors, and too deep nesting.
pub fn parse_json(bytes: &[u8]) -> Result<Value> {
    let mut scanner = Scanner::new(bytes);
    let value = scanner.any()?;
    scanner.end()?;
    Ok(value)
}

/// Reads JSON that was stored: what came in within [`MAX_KEPT_DEPTH`] always comes out.
///
/// # Errors
/// As [`parse_json`].
pub fn parse_stored(bytes: &[u8]) -> Result<Value> {
    let mut scanner = Scanner::new(bytes);
    let value = scanner.any_within(MAX_STORED_DEPTH)?;
    scanner.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, want: std::result::Result<Value, &str>) {
        let got = parse_json(text.as_bytes()).map_err(|e| e.to_string());
        assert_eq!(got, want.map_err(String::from), "{text}");
        let mut scanner = Scanner::new(text.as_bytes());
        let skipped = scanner
            .skip()
            .and_then(|()| scanner.end())
            .map_err(|e| e.to_string());
        assert_eq!(skipped.err(), got.err(), "skipping finds the same: {text}");
    }

    #[test]
    fn documents() {
        check(
            " {\"a\" : [1, -2.5, true, null, \"x\\n\\u00e9\\ud83d\\ude00\"], \"b\":{}} ",
            Ok(json!({"a": [1, -2.5, true, null, "x\né😀"], "b": {}})),
        );
        check("[]", Ok(json!([])));
        check("18446744073709551615", Ok(json!(u64::MAX)));
        check("\"\\ud800x\"", Ok(json!("\u{fffd}x")));
    }

    #[test]
    fn syntax_errors_in_gos_words() {
        check("", Err("unexpected end of JSON input"));
        check("{", Err("unexpected end of JSON input"));
        check("{\"a\":", Err("unexpected end of JSON input"));
        check("x", Err("invalid character 'x' looking for beginning of value"));
        check(
            "{x",
            Err("invalid character 'x' looking for beginning of object key string"),
        );
        check("{\"a\"x", Err("invalid character 'x' after object key"));
        check(
            "{\"a\":1x",
            Err("invalid character 'x' after object key:value pair"),
        );
        check(
            "{\"a\":1,}",
            Err("invalid character '}' looking for beginning of object key string"),
        );
        check("[1x", Err("invalid character 'x' after array element"));
        check(
            "[1,]",
            Err("invalid character ']' looking for beginning of value"),
        );
        check("1 x", Err("invalid character 'x' after top-level value"));
        check("\"\n\"", Err("invalid character '\\n' in string literal"));
        check("\"\\x\"", Err("invalid character 'x' in string escape code"));
        check(
            "\"\\u12x\"",
            Err("invalid character 'x' in \\u hexadecimal character escape"),
        );
        check(
            "trux",
            Err("invalid character 'x' in literal true (expecting 'e')"),
        );
        check("-x", Err("invalid character 'x' in numeric literal"));
        check(
            "1.x",
            Err("invalid character 'x' after decimal point in numeric literal"),
        );
        check("1ex", Err("invalid character 'x' in exponent of numeric literal"));
        check("01", Err("invalid character '1' after top-level value"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Scanner::new(deep(MAX_DEPTH).as_bytes()).skip().is_ok());
        assert_eq!(
            Scanner::new(deep(MAX_DEPTH + 1).as_bytes()).skip(),
            Err(SyntaxError::Depth)
        );
        assert!(parse_json(deep(MAX_KEPT_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse_json(deep(1_000_000).as_bytes()), Err(SyntaxError::Depth));
        let objects = "{\"a\":".repeat(10_001);
        assert_eq!(Scanner::new(objects.as_bytes()).skip(), Err(SyntaxError::Depth));
    }
}
