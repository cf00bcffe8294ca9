//! `IntOrString` arithmetic: ports by number or name, counts or percentages of a total.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

/// Number of items that `value` means for `total`: a plain number, or a percentage rounded up or down.
/// `None` when it is a string that is no percentage.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(text) => percent(text).map(|p| of_total(p, total, round_up)),
    }
}

/// `25%` to 25; `None` for anything that is not digits and a percent sign.
pub fn percent(text: &str) -> Option<i32> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Typed form of a JSON number or string.
pub fn from_value(value: &Value) -> Option<IntOrString> {
    match value {
        Value::Number(n) => n.as_i64().map(|n| IntOrString::Int(n as i32)),
        Value::String(text) => Some(IntOrString::String(text.clone())),
        _ => None,
    }
}

fn of_total(percent: i32, total: i32, round_up: bool) -> i32 {
    let product = i64::from(percent) * i64::from(total);
    let value = if round_up {
        (product + 99).div_euclid(100)
    } else {
        product.div_euclid(100)
    };
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, total: i32, up: Option<i32>, down: Option<i32>) {
        let value = IntOrString::String(text.into());
        assert_eq!(
            (scaled(&value, total, true), scaled(&value, total, false)),
            (up, down)
        );
    }

    #[test]
    fn percentages_round_as_asked() {
        check("25%", 10, Some(3), Some(2));
        check("0%", 10, Some(0), Some(0));
        check("100%", 3, Some(3), Some(3));
        check("25", 10, None, None);
        check("%", 10, None, None);
        check("-5%", 10, None, None);
        assert_eq!(scaled(&IntOrString::Int(4), 10, true), Some(4));
    }
}
