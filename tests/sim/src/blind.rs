//! Linearizability of single keys without a look at revisions, so that a bug in their logic cannot hide itself. A search
//! in the manner of Wing and Gong, with Lowe's memory of what was tried. Pure.

use std::collections::HashSet;

use bytes::Bytes;

/// What an operation did to its key, as its client saw it.
#[derive(Clone, Debug)]
pub enum Action {
    /// Saw this.
    Read(Option<Bytes>),
    /// Wrote `new` (nothing: deleted), if the key held what was expected.
    Write { expect: Expect, new: Option<Bytes> },
    /// Was refused because the key did not hold what was expected, but this.
    Refused { expect: Expect, held: Option<Bytes> },
    /// As `Write`, and nobody knows whether it happened, or when.
    Perhaps { expect: Expect, new: Option<Bytes> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Held(Option<Bytes>),
}

impl Expect {
    fn fits(&self, state: &Option<Bytes>) -> bool {
        match self {
            Expect::Anything => true,
            Expect::Held(held) => held == state,
        }
    }
}

/// Moments are any growing numbers; `returned` of what never returned is the largest.
#[derive(Clone, Debug)]
pub struct Operation {
    pub invoked: u64,
    pub returned: u64,
    pub action: Action,
}

/// How a check ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    Not,
    /// The search was given up.
    Unknown,
}

/// Steps of a search, at most.
const MAX_STEPS: u64 = 200_000;

/// Operations of one key that starts absent.
#[must_use]
pub fn check(operations: &[Operation]) -> Verdict {
    let mut sorted: Vec<&Operation> = operations.iter().collect();
    sorted.sort_by_key(|operation| operation.invoked);
    let mut search = Search {
        operations: sorted,
        tried: HashSet::new(),
        steps: 0,
    };
    let done = vec![0u64; operations.len() / 64 + 1];
    match search.from(&done, 0, &None) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Not,
        None => Verdict::Unknown,
    }
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    tried: HashSet<(Vec<u64>, Option<Bytes>)>,
    steps: u64,
}

impl Search<'_> {
    /// Whether the rest fits behind `done`; all before `first` is done.
    fn from(&mut self, done: &[u64], mut first: usize, state: &Option<Bytes>) -> Option<bool> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return None;
        }
        let is_done = |at: usize| done[at / 64] & (1 << (at % 64)) != 0;
        while first < self.operations.len() && is_done(first) {
            first += 1;
        }
        // What never returned need not have happened.
        let open = (first..self.operations.len())
            .filter(|at| !is_done(*at) && !matches!(self.operations[*at].action, Action::Perhaps { .. }));
        let Some(horizon) = open.map(|at| self.operations[at].returned).min() else {
            return Some(true);
        };
        if !self.tried.insert((done.to_vec(), state.clone())) {
            return Some(false);
        }
        for at in first..self.operations.len() {
            let operation = self.operations[at];
            if operation.invoked > horizon {
                break;
            }
            if is_done(at) {
                continue;
            }
            let after = match &operation.action {
                Action::Read(seen) if seen == state => state.clone(),
                Action::Refused { expect, held } if held == state && !expect.fits(state) => state.clone(),
                Action::Write { expect, new } | Action::Perhaps { expect, new } if expect.fits(state) => {
                    new.clone()
                }
                _ => continue,
            };
            let mut next = done.to_vec();
            next[at / 64] |= 1 << (at % 64);
            match self.from(&next, first, &after) {
                Some(false) => {}
                settled => return settled,
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `invoked-returned action` each: `r=x` reads, `w=x` writes, `c:a=b` compares and writes, `?=x` perhaps wrote; `-` is
    /// nothing.
    #[track_caller]
    fn history(text: &str, expected: Verdict) {
        let value = |text: &str| (text != "-").then(|| Bytes::copy_from_slice(text.as_bytes()));
        let operation = |word: &str| {
            let (time, action) = word.split_once(' ').expect("two words");
            let (invoked, returned) = time.split_once('-').expect("two moments");
            let (what, new) = action.split_once('=').expect("a value");
            let action = match what {
                "r" => Action::Read(value(new)),
                "w" => Action::Write {
                    expect: Expect::Anything,
                    new: value(new),
                },
                "?" => Action::Perhaps {
                    expect: Expect::Anything,
                    new: value(new),
                },
                other => Action::Write {
                    expect: Expect::Held(value(&other[2..])),
                    new: value(new),
                },
            };
            let returned = returned.parse().unwrap_or(u64::MAX);
            Operation {
                invoked: invoked.parse().expect("a number"),
                returned,
                action,
            }
        };
        let operations: Vec<_> = text.split(", ").map(operation).collect();
        assert_eq!(check(&operations), expected, "{text}");
    }

    #[test]
    fn histories_are_told_apart() {
        use Verdict::{Linearizable, Not};
        history("1-2 w=a, 3-4 r=a", Linearizable);
        history("1-2 w=a, 3-4 r=-", Not);
        history("1-4 w=a, 2-3 r=-, 5-6 r=a", Linearizable);
        history("1-2 w=a, 3-8 w=b, 4-5 r=b, 6-7 r=a", Not);
        history("1-2 w=a, 3-x ?=b, 4-5 r=a, 6-7 r=b", Linearizable);
        history("1-2 w=a, 3-x ?=b, 4-5 r=b, 6-7 r=a", Not);
        history("1-2 w=a, 3-4 c:a=b, 5-6 c:a=c", Not);
        history("1-2 w=a, 3-4 c:a=b, 5-6 c:b=-, 7-8 r=-", Linearizable);
    }
}
