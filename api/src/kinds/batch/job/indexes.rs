//! Lists of indexes of an Indexed Job: `1,3-5,7`. Source: `pkg/apis/batch/validation`.

use crate::field::quoted;

/// First and last index of each interval.
type Interval = (i64, i64);

/// How many indexes the text names.
///
/// # Errors
/// What is wrong with it: form, order, or an index that is no less than `completions`.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut last: Option<i64> = None;
    let mut total = 0;
    for part in text.split(',') {
        let (first, end) = interval(part, completions)?;
        if let Some(previous) = last.filter(|l| *l >= first) {
            return Err(format!(
                "non-increasing order, previous: {previous}, current: {first}"
            ));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that both lists name; parts that cannot be read are passed over.
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    if completed.is_empty() || failed.is_empty() {
        return None;
    }
    let read = |text: &str| -> Vec<Interval> {
        text.split(',')
            .filter_map(|p| interval(p, completions).ok())
            .collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut c, mut f) = (0, 0);
    while let (Some(done), Some(lost)) = (completed.get(c), failed.get(f)) {
        if done.0 <= lost.1 && lost.0 <= done.1 {
            return Some(done.0.max(lost.0));
        }
        if done.0 <= lost.0 {
            c += 1;
        } else {
            f += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<Interval, String> {
    let limits: Vec<&str> = text.split('-').collect();
    if limits.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(text)
        ));
    }
    let number = |part: &str| -> Result<i64, String> {
        part.parse()
            .map_err(|_| format!("cannot convert string to integer for index: {}", quoted(part)))
    };
    let first = number(limits[0])?;
    if first >= completions {
        return Err(format!("too large index: {}", quoted(limits[0])));
    }
    let Some(second) = limits.get(1) else {
        return Ok((first, first));
    };
    let end = number(second)?;
    if end >= completions {
        return Err(format!("too large index: {}", quoted(second)));
    }
    if first >= end {
        return Err(format!("non-increasing order, previous: {first}, current: {end}"));
    }
    Ok((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<i64, &str>) {
        assert_eq!(count(text, 10), want.map_err(str::to_string));
    }

    #[test]
    fn lists_of_indexes() {
        check("", Ok(0));
        check("1,3-5,9", Ok(5));
        check("3,1", Err("non-increasing order, previous: 3, current: 1"));
        check("5-3", Err("non-increasing order, previous: 5, current: 3"));
        check("10", Err("too large index: \"10\""));
        check("a", Err("cannot convert string to integer for index: \"a\""));
        assert_eq!(overlap("0-3,7", "5,7-8", 10), Some(7));
        assert_eq!(overlap("0-3", "4-5", 10), None);
        assert_eq!(overlap("0-3", "2-5", 10), Some(2));
    }
}
