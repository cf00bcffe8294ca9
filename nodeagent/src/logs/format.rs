//! The CRI log format, one entry a line: `<RFC 3339 time> <stdout|stderr> <P|F>[:tag...] <text>`. Pure.

use jiff::Timestamp;

use crate::tunnel::{LogOptions, LogStream};

/// One line of a log file. A partial entry (`P`) is continued by the next one of its stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: &'a str,
    pub stderr: bool,
    pub partial: bool,
    /// Without the line's end.
    pub text: &'a [u8],
}

/// `None` for what is not in this format; `line` comes without its line end.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = parts.next()?.split(|byte| *byte == b':').next()? == b"P";
    Some(Entry {
        time,
        stderr,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

/// Turns entries into what the client sees, within its options.
pub struct Formatter {
    options: LogOptions,
    /// Whether the next entry of (stdout, stderr) begins a line.
    fresh: (bool, bool),
    left: Option<u64>,
}

impl Formatter {
    pub fn new(options: LogOptions) -> Formatter {
        let left = options.limit_bytes;
        Formatter {
            options,
            fresh: (true, true),
            left,
        }
    }

    /// Appends to `out`; `false` once the byte limit is reached.
    pub fn feed(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(entry) = parse(line) else { return true };
        let wanted = match self.options.stream {
            LogStream::All => true,
            LogStream::Stdout => !entry.stderr,
            LogStream::Stderr => entry.stderr,
        };
        let fresh = if entry.stderr {
            &mut self.fresh.1
        } else {
            &mut self.fresh.0
        };
        let begins = std::mem::replace(fresh, !entry.partial);
        if !wanted || self.is_too_old(entry.time) {
            return true;
        }
        let start = out.len();
        if self.options.timestamps && begins {
            out.extend_from_slice(entry.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
        let Some(left) = &mut self.left else { return true };
        let added = (out.len() - start) as u64;
        if added >= *left {
            out.truncate(start + *left as usize);
            *left = 0;
            return false;
        }
        *left -= added;
        true
    }

    fn is_too_old(&self, time: &str) -> bool {
        self.options
            .since
            .is_some_and(|since| time.parse::<Timestamp>().is_ok_and(|time| time < since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-21T03:00:00.000000001Z stdout F one\n\
        2026-11-21T03:00:01.000000002Z stderr F two\n\
        2026-11-21T03:00:02.000000003Z stdout P thr\n\
        2026-11-21T03:00:02.000000004Z stdout F ee\n\
        not a log line\n\
        2026-11-21T03:00:03.000000005Z stdout F \n";

    #[track_caller]
    fn check(options: LogOptions, wanted: &str) {
        let mut formatter = Formatter::new(options);
        let mut out = Vec::new();
        for line in LOG.lines() {
            if !formatter.feed(line.as_bytes(), &mut out) {
                break;
            }
        }
        assert_eq!(String::from_utf8_lossy(&out), wanted);
    }

    #[test]
    fn options() {
        check(LogOptions::default(), "one\ntwo\nthree\n\n");
        check(
            LogOptions {
                stream: LogStream::Stderr,
                ..LogOptions::default()
            },
            "two\n",
        );
        check(
            LogOptions {
                limit_bytes: Some(6),
                ..LogOptions::default()
            },
            "one\ntw",
        );
        let since = "2026-11-21T03:00:02Z".parse().ok();
        let wanted = "2026-11-21T03:00:02.000000003Z three\n2026-11-21T03:00:03.000000005Z \n";
        check(
            LogOptions {
                since,
                timestamps: true,
                ..LogOptions::default()
            },
            wanted,
        );
    }
}
