//! Tables of commands in text files, as `tests/matrix` holds them.
//!
//! ```text
//! # A comment.
//! == a section
//! ==! a section that no other version may run at the same time
//! $ kubectl create job one --image=x      a line for bash; must succeed
//! | apiVersion: v1                        its standard input, line by line
//! > job.batch/one created                 must be in what it prints
//! < deprecated                            must not be
//! $! kubectl get nothing                  must fail
//! $ [1.28+] kubectl auth whoami           only for these versions; `[-1.30]`: up to
//! $~ kubectl get job one -o name          repeated until it holds, at most a minute
//! ```

use std::fmt;

/// How a command is expected to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Success,
    Failure,
    /// Success and the wanted output, sooner or later.
    Eventually,
}

/// One command and what must come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The line of the file, from 1.
    pub line: usize,
    pub end: End,
    /// Minor versions of kubectl this is for, both ends included.
    pub minors: (u32, u32),
    pub command: String,
    pub stdin: String,
    pub wanted: Vec<String>,
    pub unwanted: Vec<String>,
}

/// Commands that build on each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    /// It touches what all versions share.
    pub alone: bool,
    pub steps: Vec<Step>,
}

impl Step {
    pub fn is_for(&self, minor: u32) -> bool {
        (self.minors.0..=self.minors.1).contains(&minor)
    }

    /// What is wrong with an outcome; `None` when nothing is.
    pub fn judge(&self, succeeded: bool, output: &str) -> Option<String> {
        if succeeded == (self.end == End::Failure) {
            let ended = if succeeded { "succeeded" } else { "failed" };
            return Some(format!("{ended}: {output}"));
        }
        let squeezed = squeeze(output);
        for (text, want) in self
            .wanted
            .iter()
            .map(|t| (t, true))
            .chain(self.unwanted.iter().map(|t| (t, false)))
        {
            if squeezed.contains(&squeeze(text)) != want {
                let no = if want { "no" } else { "there is" };
                return Some(format!("{no} {text:?} in: {output}"));
            }
        }
        None
    }
}

/// Runs of blanks count as one: columns of tables are as wide as their cells.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line that no step can be made of.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine(pub usize);

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} is not understood", self.0)
    }
}

/// # Errors
/// The first line that is none of the forms above.
pub fn parse(text: &str) -> Result<Vec<Section>, BadLine> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let bad = || BadLine(number);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("==") {
            let (alone, title) = match title.strip_prefix('!') {
                Some(title) => (true, title),
                None => (false, title),
            };
            sections.push(Section {
                title: title.trim().into(),
                alone,
                steps: Vec::new(),
            });
            continue;
        }
        let steps = &mut sections.last_mut().ok_or_else(bad)?.steps;
        if let Some(rest) = line.strip_prefix('$') {
            steps.push(step(number, rest).ok_or_else(bad)?);
            continue;
        }
        let step = steps.last_mut().ok_or_else(bad)?;
        let (mark, rest) = line.split_at(1);
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match mark {
            ">" => step.wanted.push(rest.into()),
            "<" => step.unwanted.push(rest.into()),
            "|" => step.stdin += &format!("{rest}\n"),
            _ => return Err(bad()),
        }
    }
    Ok(sections)
}

fn step(line: usize, rest: &str) -> Option<Step> {
    let (end, rest) = match rest.as_bytes().first()? {
        b'!' => (End::Failure, &rest[1..]),
        b'~' => (End::Eventually, &rest[1..]),
        _ => (End::Success, rest),
    };
    let rest = rest.strip_prefix(' ')?;
    let (minors, command) = match rest.strip_prefix("[1.") {
        Some(rest) => {
            let (from, command) = rest.split_once("+] ")?;
            ((from.parse().ok()?, u32::MAX), command)
        }
        None => match rest.strip_prefix("[-1.") {
            Some(rest) => {
                let (to, command) = rest.split_once("] ")?;
                ((0, to.parse().ok()?), command)
            }
            None => ((0, u32::MAX), rest),
        },
    };
    Some(Step {
        line,
        end,
        minors,
        command: command.into(),
        stdin: String::new(),
        wanted: Vec::new(),
        unwanted: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read() {
        let text = "# c\n== one\n$ kubectl a\n| x\n|  y\n> b  c\n< d\n\n$! [1.28+] kubectl e\n$~ [-1.30] f\n";
        let sections = parse(text).expect("reads");
        let [first, second, third] = sections[0].steps.as_slice() else {
            panic!("three steps: {sections:?}");
        };
        assert_eq!((first.stdin.as_str(), first.line), ("x\n y\n", 3));
        assert_eq!(first.judge(true, "a b c"), None);
        assert!(first.judge(true, "b c d").is_some());
        assert!(first.judge(false, "b c").is_some());
        assert_eq!((second.end, second.minors), (End::Failure, (28, u32::MAX)));
        assert!(second.is_for(28) && !second.is_for(27));
        assert_eq!((third.end, third.minors), (End::Eventually, (0, 30)));
        assert_eq!(parse("$ a"), Err(BadLine(1)));
        assert_eq!(parse("== a\n> b"), Err(BadLine(2)));
    }
}
