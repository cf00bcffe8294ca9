//! `resource.Quantity`: exact decimal amounts with SI, binary or exponent suffix.
//!
//! Amounts are whole nano-units in an `i128`; beyond 2^63-1 whole units they saturate and below one
//! nano-unit they round away from zero, as upstream does. Source: `k8s.io/apimachinery/pkg/api/resource`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How a quantity was written, and so how it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// An exact amount. Equality and order look at the amount only, not at the format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
const MAX_NANOS: i128 = i64::MAX as i128 * NANO;
/// Longer texts are refused unread: no real quantity comes near it.
const MAX_TEXT: usize = 128;

/// Decimal suffixes by power of ten.
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
/// Binary suffixes by power of 1024, from one.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// Whole units.
    pub fn new(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    /// Whole units, decimal.
    pub fn units(value: i64) -> Self {
        Self::new(value, Format::DecimalSi)
    }

    /// Whole units (bytes), binary.
    pub fn bytes(value: i64) -> Self {
        Self::new(value, Format::BinarySi)
    }

    /// Thousandths, decimal.
    pub fn milli(value: i64) -> Self {
        Self {
            nanos: i128::from(value) * (NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero (Go's `Value`).
    pub fn value(&self) -> i64 {
        clamp(round_away(self.nanos, NANO))
    }

    /// Thousandths, rounded away from zero (Go's `MilliValue`).
    pub fn milli_value(&self) -> i64 {
        clamp(round_away(self.nanos, NANO / 1000))
    }

    /// Whole units, when the amount is a whole number of them.
    pub fn as_integer(&self) -> Option<i64> {
        self.is_whole().then(|| self.value())
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i64 {
        self.nanos.signum() as i64
    }

    /// True when the amount is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// True when the amount is a whole number of thousandths.
    pub fn is_whole_milli(&self) -> bool {
        self.nanos % (NANO / 1000) == 0
    }

    pub fn to_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Sum, saturating; a zero takes the other's format.
    pub fn add(&mut self, other: &Self) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = self
            .nanos
            .saturating_add(other.nanos)
            .clamp(-MAX_NANOS, MAX_NANOS);
    }

    /// Difference, saturating; a zero takes the other's format.
    pub fn sub(&mut self, other: &Self) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos = self
            .nanos
            .saturating_sub(other.nanos)
            .clamp(-MAX_NANOS, MAX_NANOS);
    }
}

fn round_away(nanos: i128, unit: i128) -> i128 {
    let (whole, rest) = (nanos / unit, nanos % unit);
    whole + rest.signum()
}

fn clamp(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(ParseError::Format);
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        if number.is_empty() {
            return Err(ParseError::Format);
        }
        if !suffix_shaped(suffix) {
            return Err(ParseError::Format);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(ParseError::Numeric);
        }
        let (format, scale) = parse_suffix(suffix)?;
        let nanos = scaled(whole, fraction, scale);
        let format = match format {
            // Small binary amounts print as decimals, so that 0.5Ki stays readable.
            Format::BinarySi if nanos.abs() < 1024 * NANO => Format::DecimalSi,
            other => other,
        };
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// What the text after the number multiplies it by.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of 1024.
    Kibi(u32),
}

fn suffix_shaped(suffix: &str) -> bool {
    let letters = suffix
        .find(|c: char| !"eEinumkKMGTP".contains(c))
        .unwrap_or(suffix.len());
    let rest = suffix[letters..]
        .strip_prefix(['+', '-'])
        .unwrap_or(&suffix[letters..]);
    rest.bytes().all(|b| b.is_ascii_digit())
}

fn parse_suffix(suffix: &str) -> Result<(Format, Scale), ParseError> {
    if let Some((_, power)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, Scale::Ten(*power)));
    }
    if let Some(idx) = BINARY.iter().position(|s| *s == suffix) {
        return Ok((Format::BinarySi, Scale::Kibi(idx as u32 + 1)));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    let power: i32 = exponent.parse().map_err(|_| ParseError::Suffix)?;
    Ok((Format::DecimalExponent, Scale::Ten(power.clamp(-1000, 1000))))
}

/// Digits times the scale in nano-units, rounded up, saturating.
fn scaled(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let mut mantissa: i128 = 0;
    let mut dropped = false;
    let mut power: i32 = 9;
    for (idx, b) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let in_fraction = idx >= whole.len();
        let digit = i128::from(b - b'0');
        if mantissa < 10i128.pow(28) {
            mantissa = mantissa * 10 + digit;
            power -= i32::from(in_fraction);
        } else {
            dropped |= digit != 0;
            power += i32::from(!in_fraction);
        }
    }
    let exact = match scale {
        Scale::Ten(ten) => {
            power += ten;
            mantissa
        }
        Scale::Kibi(kibi) => match mantissa.checked_mul(1024i128.pow(kibi)) {
            Some(product) => product,
            None => {
                return if power < -20 {
                    scaled_down_kibi(mantissa, kibi, power)
                } else {
                    MAX_NANOS
                };
            }
        },
    };
    let value = shift(exact, power);
    (value + i128::from(dropped && value < MAX_NANOS && power <= 0)).min(MAX_NANOS)
}

/// A mantissa so long that multiplying first would overflow: drop digits that cannot matter.
fn scaled_down_kibi(mantissa: i128, kibi: u32, power: i32) -> i128 {
    let cut = 10i128.pow(9);
    let head = round_away(mantissa, cut);
    match head.checked_mul(1024i128.pow(kibi)) {
        Some(product) => shift(product, power + 9),
        None => MAX_NANOS,
    }
}

/// `value * 10^power`, rounded up, saturating.
fn shift(value: i128, power: i32) -> i128 {
    if value == 0 {
        return 0;
    }
    if power >= 0 {
        let factor = 10i128.checked_pow(power as u32);
        factor
            .and_then(|f| value.checked_mul(f))
            .unwrap_or(MAX_NANOS)
            .min(MAX_NANOS)
    } else {
        match 10i128.checked_pow(power.unsigned_abs()) {
            Some(divisor) => round_away(value, divisor),
            None => 1,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        match self.format {
            Format::BinarySi if self.nanos.abs() >= 1024 * NANO => {
                let mut number = round_away(self.nanos, NANO);
                let mut suffix = "";
                for next in BINARY {
                    if number % 1024 != 0 {
                        break;
                    }
                    number /= 1024;
                    suffix = next;
                }
                write!(f, "{number}{suffix}")
            }
            format => {
                let (mut number, mut power) = (self.nanos, -9);
                while number % 1000 == 0 && power < 18 {
                    number /= 1000;
                    power += 3;
                }
                match format {
                    Format::DecimalExponent if power == 0 => write!(f, "{number}"),
                    Format::DecimalExponent => write!(f, "{number}e{power}"),
                    _ => {
                        let idx = ((power + 9) / 3) as usize;
                        write!(f, "{number}{}", DECIMAL[idx].0)
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str, value: i64, milli: i64) {
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!(quantity.to_string(), canonical, "{text}");
        assert_eq!(
            (quantity.value(), quantity.milli_value()),
            (value, milli),
            "{text}"
        );
        let again: Quantity = canonical.parse().unwrap();
        assert_eq!(
            (again, again.to_string().as_str()),
            (quantity, canonical),
            "{text} again"
        );
    }

    #[test]
    fn canonical_forms() {
        check("0", "0", 0, 0);
        check("1", "1", 1, 1000);
        check("1000m", "1", 1, 1000);
        check("0.5", "500m", 1, 500);
        check("1.5", "1500m", 2, 1500);
        check("100m", "100m", 1, 100);
        check("1024Mi", "1Gi", 1 << 30, (1 << 30) * 1000);
        check("1.5Gi", "1536Mi", 1536 << 20, (1536 << 20) * 1000);
        check("0.5Ki", "512", 512, 512_000);
        check("1000", "1k", 1000, 1_000_000);
        check("123456", "123456", 123456, 123_456_000);
        check("1e3", "1e3", 1000, 1_000_000);
        check("1E", "1E", 1_000_000_000_000_000_000, i64::MAX);
        check("-1", "-1", -1, -1000);
        check("-100m", "-100m", -1, -100);
        check("1n", "1n", 1, 1);
        check("0.1n", "1n", 1, 1);
        check("+3", "3", 3, 3000);
        check("128974848", "128974848", 128_974_848, 128_974_848_000);
        check("129M", "129M", 129_000_000, 129_000_000_000);
        check(".5", "500m", 1, 500);
        check("5.", "5", 5, 5000);
    }

    #[test]
    fn refused_forms() {
        for (text, want) in [
            ("", ParseError::Format),
            ("abc", ParseError::Format),
            ("1x", ParseError::Format),
            ("1 Gi", ParseError::Format),
            (".", ParseError::Numeric),
            ("1.2.3", ParseError::Numeric),
            ("1kk", ParseError::Suffix),
            ("1i", ParseError::Suffix),
            ("1ki", ParseError::Suffix),
            ("1e", ParseError::Suffix),
            ("--1", ParseError::Format),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(want), "{text:?}");
        }
    }

    #[test]
    fn huge_amounts_saturate() {
        for text in [
            "99999999999999999999999999999999999999",
            "9e900",
            "99999999999Ei",
            "1e30",
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().value(), i64::MAX, "{text}");
        }
        assert_eq!(
            "0.00000000000000000000000000000000001"
                .parse::<Quantity>()
                .unwrap()
                .to_string(),
            "1n"
        );
    }

    #[test]
    fn sums_keep_the_format() {
        let mut sum = Quantity::ZERO;
        sum.add(&"1Gi".parse().unwrap());
        sum.add(&"512Mi".parse().unwrap());
        assert_eq!(sum.to_string(), "1536Mi");
        sum.sub(&"512Mi".parse().unwrap());
        assert_eq!(sum.to_string(), "1Gi");
        assert!("1".parse::<Quantity>().unwrap() > "999m".parse().unwrap());
    }
}
