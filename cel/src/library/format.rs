//! `string.format` and quoting.
//!
//! Source: cel-go's `ext/formatting.go`.

use super::Call;
use super::convert::text_of;
use super::operators::text;
use crate::error::{Eval, EvalError};
use crate::types::Type;
use crate::value::{Key, Map, Value};

const DEFAULT_PRECISION: usize = 6;
/// Longest fraction.
const MAX_PRECISION: usize = 100;
/// Most bytes one call makes.
const MAX_BYTES: usize = 1 << 20;

/// A part of a template.
enum Part {
    Char(char),
    Clause { precision: Option<usize>, verb: char },
}

/// The parts of a template, read one by one: what is wrong further on is not seen before.
struct Template<'a>(std::iter::Peekable<std::str::Chars<'a>>);

impl Template<'_> {
    fn next(&mut self) -> Eval<Option<Part>> {
        let chars = &mut self.0;
        let Some(c) = chars.next() else { return Ok(None) };
        if c != '%' {
            return Ok(Some(Part::Char(c)));
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            return Ok(Some(Part::Char('%')));
        }
        let wrong = |text: String| EvalError::new(format!("could not parse formatting clause: {text}"));
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*digit);
                chars.next();
            }
            let own: usize = digits.parse().map_err(|_| {
                wrong("error while parsing precision: could not find end of precision specifier".into())
            })?;
            if own > MAX_PRECISION {
                return Err(wrong(format!("precision {own} is larger than {MAX_PRECISION}")));
            }
            precision = Some(own);
        }
        let verb = chars
            .next()
            .ok_or_else(|| EvalError::new("unexpected end of format string"))?;
        Ok(Some(Part::Clause { precision, verb }))
    }
}

fn no_argument(idx: usize) -> EvalError {
    EvalError::new(format!("index {idx} out of range"))
}

/// `text.format(list)`.
pub fn format<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let Value::List(list) = &args[1] else {
        return Err(EvalError::no_overload());
    };
    let mut next = 0;
    let mut out = String::new();
    let mut template = Template(text(&args[0])?.chars().peekable());
    while let Some(part) = template.next()? {
        if out.len() > MAX_BYTES {
            return Err(EvalError::new("string too large"));
        }
        match part {
            Part::Char(c) => out.push(c),
            Part::Clause { precision, verb } => {
                let argument = list.get(next).ok_or_else(|| no_argument(next))??;
                next += 1;
                clause(verb, precision, &argument, &mut out)?;
            }
        }
    }
    Ok(Value::str(out))
}

/// What is wrong with a call whose template and list are both written out, and with which element of the list.
pub fn check(template: &str, types: &[Type]) -> Result<(), (Option<usize>, String)> {
    let of_call = |error: EvalError| (None, error.to_string());
    let mut template = Template(template.chars().peekable());
    let mut next = 0;
    while let Some(part) = template.next().map_err(of_call)? {
        let Part::Clause { verb, .. } = part else { continue };
        let ty = types.get(next).ok_or_else(|| of_call(no_argument(next)))?;
        let fits = match verb {
            's' => !matches!(ty, Type::Opaque(_) | Type::Optional(_) | Type::Object(_)),
            'd' | 'o' => matches!(ty, Type::Int | Type::Uint),
            'f' | 'e' => matches!(ty, Type::Double | Type::String),
            'b' => matches!(ty, Type::Int | Type::Uint | Type::Bool),
            'x' | 'X' => matches!(ty, Type::Int | Type::Uint | Type::String | Type::Bytes),
            other => return Err(of_call(unknown(other))),
        };
        if !fits && !matches!(ty, Type::Dyn | Type::Error | Type::Param(_)) {
            let name = ty.to_string();
            let name = name.split('(').next().unwrap_or_default();
            return Err((Some(next), misfit(verb, name).to_string()));
        }
        next += 1;
    }
    if next < types.len() {
        let text = format!(
            "too many arguments supplied to string.format (expected {next}, got {})",
            types.len()
        );
        return Err((None, text));
    }
    Ok(())
}

fn unknown(verb: char) -> EvalError {
    EvalError::new(format!(
        "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
    ))
}

/// A value of a type that a clause cannot show.
fn misfit(verb: char, ty: &str) -> EvalError {
    let what = match verb {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'o' => "octal clause can only be used on integers",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
    };
    EvalError::new(format!("error during formatting: {what}, was given {ty}"))
}

fn clause(verb: char, precision: Option<usize>, own: &Value<'_>, out: &mut String) -> Eval<()> {
    let wrong = || misfit(verb, &own.type_name());
    match (verb, own) {
        ('s', own) => shown(own, false, out)?,
        ('d', Value::Int(own)) => out.push_str(&own.to_string()),
        ('d', Value::Uint(own)) => out.push_str(&own.to_string()),
        ('d', _) => return Err(wrong()),
        ('f' | 'e', own) => {
            let number = match own {
                Value::Double(own) => *own,
                Value::String(own) if matches!(&**own, "NaN" | "Infinity" | "-Infinity") => {
                    own.replace("Infinity", "inf").parse().unwrap_or(f64::NAN)
                }
                _ => return Err(wrong()),
            };
            out.push_str(&float(verb, number, precision.unwrap_or(DEFAULT_PRECISION)));
        }
        ('b', Value::Bool(own)) => out.push(if *own { '1' } else { '0' }),
        ('b', Value::Int(own)) => out.push_str(&signed(*own, |n| format!("{n:b}"))),
        ('b', Value::Uint(own)) => out.push_str(&format!("{own:b}")),
        ('b', _) => return Err(wrong()),
        ('o', Value::Int(own)) => out.push_str(&signed(*own, |n| format!("{n:o}"))),
        ('o', Value::Uint(own)) => out.push_str(&format!("{own:o}")),
        ('o', _) => return Err(wrong()),
        ('x' | 'X', own) => {
            let hex = match own {
                Value::Int(own) => signed(*own, |n| format!("{n:x}")),
                Value::Uint(own) => format!("{own:x}"),
                Value::String(own) => own.bytes().map(|b| format!("{b:02x}")).collect(),
                Value::Bytes(own) => own.iter().map(|b| format!("{b:02x}")).collect(),
                _ => return Err(wrong()),
            };
            out.push_str(&if verb == 'X' { hex.to_uppercase() } else { hex });
        }
        (other, _) => return Err(unknown(other)),
    }
    Ok(())
}

fn signed(own: i64, digits: fn(u64) -> String) -> String {
    let sign = if own < 0 { "-" } else { "" };
    format!("{sign}{}", digits(own.unsigned_abs()))
}

fn float(verb: char, own: f64, precision: usize) -> String {
    if own.is_nan() {
        return "NaN".into();
    }
    if own.is_infinite() {
        return if own > 0.0 {
            "\u{221e}".into()
        } else {
            "-\u{221e}".into()
        };
    }
    if verb == 'f' {
        return grouped(&format!("{own:.precision$}"));
    }
    let text = format!("{own:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // The English form of the printer upstream uses.
    let power: String = format!("{:02}", exponent.abs());
    let sign = if exponent < 0 { "\u{207b}" } else { "\u{2070}" };
    let superscript: String = power
        .chars()
        .map(|digit| {
            [
                '\u{2070}', '\u{b9}', '\u{b2}', '\u{b3}', '\u{2074}', '\u{2075}', '\u{2076}', '\u{2077}',
                '\u{2078}', '\u{2079}',
            ][digit as usize - '0' as usize]
        })
        .collect();
    let sign = if exponent < 0 { sign } else { "" };
    format!("{mantissa}\u{202f}\u{d7}\u{202f}10{sign}{superscript}")
}

/// English groups of three digits.
fn grouped(own: &str) -> String {
    let (sign, rest) = own.strip_prefix('-').map_or(("", own), |rest| ("-", rest));
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(a, b)| (a, Some(b)));
    let mut out = String::from(sign);
    for (idx, digit) in whole.chars().enumerate() {
        if idx > 0 && (whole.len() - idx) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `%s`; within lists and maps texts are quoted and times written as literals.
fn shown(own: &Value<'_>, nested: bool, out: &mut String) -> Eval<()> {
    if out.len() > MAX_BYTES {
        return Err(EvalError::new("string too large"));
    }
    match own {
        Value::Null => out.push_str("null"),
        Value::String(own) if nested => out.push_str(&go_quoted(own)),
        Value::Bytes(_) if nested => {
            out.push('b');
            out.push_str(&go_quoted(&text_of(own)?));
        }
        Value::Double(own) if nested => match own.is_finite() {
            true => out.push_str(&format!("{own:.6}")),
            false => out.push_str(&go_quoted(&super::convert::go_double(*own))),
        },
        Value::Timestamp(_) if nested => out.push_str(&format!("timestamp({})", go_quoted(&text_of(own)?))),
        Value::Duration(_) if nested => out.push_str(&format!("duration({})", go_quoted(&text_of(own)?))),
        Value::List(list) => {
            out.push('[');
            for (idx, own) in list.iter().enumerate() {
                if idx > 0 {
                    out.push_str(", ");
                }
                shown(&own?, true, out)?;
            }
            out.push(']');
        }
        Value::Map(map @ (Map::Json { .. } | Map::Own(_))) => {
            let mut pairs = Vec::new();
            for key in map.keys() {
                let name = match &key {
                    Key::String(own) => go_quoted(own),
                    other => other.to_string(),
                };
                let mut value = String::new();
                if let Some(own) = map.get(&key) {
                    shown(&own?, true, &mut value)?;
                }
                pairs.push((name, value));
            }
            pairs.sort();
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{key}:{value}"))
                .collect();
            out.push('{');
            out.push_str(&pairs.join(", "));
            out.push('}');
        }
        Value::Map(_) | Value::Optional(_) | Value::Opaque(_) => {
            return Err(EvalError::new(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                own.type_name()
            )));
        }
        _ => out.push_str(&text_of(own)?),
    }
    Ok(())
}

/// Go's `%q`.
pub fn go_quoted(own: &str) -> String {
    let mut out = String::from("\"");
    for c in own.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `strings.quote`: safe to print, all else as it is.
pub fn quote(own: &str) -> String {
    let mut out = String::from("\"");
    for c in own.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
