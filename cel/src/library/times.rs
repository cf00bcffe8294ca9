//! Parts of timestamps and durations.

use jiff::Zoned;

use super::{Call, Entry};
use crate::error::{Eval, EvalError};
use crate::time;
use crate::value::Value;

const OF_TIMESTAMP: &str = "timestamp_part timestamp.() int
    timestamp_part_with_tz timestamp.(string) int";
const OF_BOTH: &str = "timestamp_part timestamp.() int
    timestamp_part_with_tz timestamp.(string) int
    duration_part duration.() int";

pub const TABLE: &[Entry] = &[
    Entry(
        "getFullYear",
        |c, a| part(c, a, |t| i64::from(t.year()), None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getMonth",
        |c, a| part(c, a, |t| i64::from(t.month()) - 1, None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getDayOfYear",
        |c, a| part(c, a, |t| i64::from(t.day_of_year()) - 1, None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getDayOfMonth",
        |c, a| part(c, a, |t| i64::from(t.day()) - 1, None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getDate",
        |c, a| part(c, a, |t| i64::from(t.day()), None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getDayOfWeek",
        |c, a| part(c, a, |t| i64::from(t.weekday().to_sunday_zero_offset()), None),
        OF_TIMESTAMP,
    ),
    Entry(
        "getHours",
        |c, a| part(c, a, |t| i64::from(t.hour()), Some(3_600_000_000_000)),
        OF_BOTH,
    ),
    Entry(
        "getMinutes",
        |c, a| part(c, a, |t| i64::from(t.minute()), Some(60_000_000_000)),
        OF_BOTH,
    ),
    Entry(
        "getSeconds",
        |c, a| part(c, a, |t| i64::from(t.second()), Some(1_000_000_000)),
        OF_BOTH,
    ),
    Entry(
        "getMilliseconds",
        |c, a| part(c, a, |t| i64::from(t.millisecond()), Some(1_000_000)),
        OF_BOTH,
    ),
];

/// A part of a timestamp in a zone, or a duration in whole units of so many nanoseconds.
fn part<'a>(_: &Call<'_>, args: &[Value<'a>], of: fn(&Zoned) -> i64, unit: Option<i64>) -> Eval<Value<'a>> {
    match (args, unit) {
        ([Value::Timestamp(own)], _) => Ok(Value::Int(of(&own.to_zoned(jiff::tz::TimeZone::UTC)))),
        ([Value::Timestamp(own), Value::String(zone)], _) => {
            Ok(Value::Int(of(&own.to_zoned(time::zone(zone)?))))
        }
        ([Value::Duration(own)], Some(unit)) => Ok(Value::Int(own / unit)),
        _ => Err(EvalError::no_overload()),
    }
}
