//! Whether the members hold the same state. Every [`EVERY`] log entries the leader writes into the log what its state
//! adds up to; a member whose state adds up to something else says so, then all do, each once, in the log. The majority
//! is right: whoever differs from it stops and gets the state from the others. Without a majority nobody is right, and
//! writes stop. A plain structure: the same log gives every member the same view of the votes.

use std::collections::{BTreeMap, VecDeque};

/// Applied log entries between two comparisons.
pub const EVERY: u64 = 1000;
/// Sums of one's own kept for comparison.
const KEPT: usize = 64;

/// One member's word on its state as of a log index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    pub member: u64,
    pub index: u64,
    pub digest: u64,
}

/// What follows from a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet, or nothing at all.
    Fine,
    /// This member is to say what its own state adds up to.
    Speak(Vote),
    /// The majority holds another state than this member.
    Halt { index: u64 },
    /// All have spoken, and no majority holds the same.
    NoMajority { index: u64 },
}

#[derive(Debug, Default)]
pub struct Agreement {
    /// `(index, digest)` of this member's own state.
    own: VecDeque<(u64, u64)>,
    /// The votes about the newest index anyone spoke of, as of the log.
    index: u64,
    votes: BTreeMap<u64, u64>,
    /// Whether somebody differed.
    disputed: bool,
    spoken: bool,
}

impl Agreement {
    /// Notes what the own state adds up to after the entry at `index`.
    pub fn note(&mut self, index: u64, digest: u64) {
        self.own.push_back((index, digest));
        if self.own.len() > KEPT {
            self.own.pop_front();
        }
    }

    /// The state was replaced; what was noted says nothing about the new one.
    pub fn forget(&mut self) {
        *self = Agreement::default();
    }

    /// Takes a vote out of the log. `me` is this member, `voters` are those whose majority counts.
    pub fn take(&mut self, vote: Vote, me: u64, voters: &[u64]) -> Verdict {
        if vote.index < self.index {
            return Verdict::Fine;
        }
        if vote.index > self.index {
            self.index = vote.index;
            self.votes.clear();
            (self.disputed, self.spoken) = (false, false);
        }
        self.votes.insert(vote.member, vote.digest);
        self.spoken |= vote.member == me;
        let Some(own) = self.own.iter().find(|(index, _)| *index == vote.index) else {
            // The state came from a peer after that index.
            return Verdict::Fine;
        };
        let own = own.1;
        self.disputed |= own != vote.digest || self.votes.values().any(|other| *other != vote.digest);
        if !self.disputed {
            return Verdict::Fine;
        }
        let count = |digest: u64| {
            let counted = voters
                .iter()
                .filter(|voter| self.votes.get(voter) == Some(&digest));
            counted.count()
        };
        let majority = self
            .votes
            .values()
            .find(|digest| count(**digest) > voters.len() / 2);
        let index = vote.index;
        match majority {
            Some(digest) if *digest != own => Verdict::Halt { index },
            Some(_) if self.spoken => Verdict::Fine,
            None if voters.iter().all(|voter| self.votes.contains_key(voter)) => {
                Verdict::NoMajority { index }
            }
            None if self.spoken => Verdict::Fine,
            _ => {
                self.spoken = true;
                Verdict::Speak(Vote {
                    member: me,
                    index,
                    digest: own,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members `0..digests.len()` with these states; the first leads. What each ends with, when every vote cast goes
    /// through the one log.
    #[track_caller]
    fn check(digests: &[u64], expected: &str) {
        let voters: Vec<u64> = (0..digests.len() as u64).collect();
        let mut members: Vec<Agreement> = digests
            .iter()
            .map(|digest| {
                let mut agreement = Agreement::default();
                agreement.note(1000, *digest);
                agreement
            })
            .collect();
        let mut log = VecDeque::from([Vote {
            member: 0,
            index: 1000,
            digest: digests[0],
        }]);
        let mut ends = vec!["fine"; digests.len()];
        while let Some(vote) = log.pop_front() {
            for (me, agreement) in members.iter_mut().enumerate() {
                match agreement.take(vote, me as u64, &voters) {
                    Verdict::Fine => (),
                    Verdict::Speak(vote) => log.push_back(vote),
                    Verdict::Halt { index: 1000 } => ends[me] = "halt",
                    Verdict::NoMajority { index: 1000 } => ends[me] = "stop",
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(ends.join(" "), expected, "{digests:?}");
    }

    #[test]
    fn the_majority_is_right() {
        check(&[1, 1, 1], "fine fine fine");
        check(&[1, 2, 1], "fine halt fine");
        check(&[2, 1, 1], "halt fine fine");
        check(&[1, 2, 1, 2, 1], "fine halt fine halt fine");
        check(&[1, 2, 3], "stop stop stop");
        check(&[1, 2], "stop stop");
    }

    #[test]
    fn who_got_the_state_later_has_no_say() {
        let mut agreement = Agreement::default();
        agreement.note(2000, 5);
        let vote = |index, digest| Vote {
            member: 1,
            index,
            digest,
        };
        assert_eq!(agreement.take(vote(1000, 9), 2, &[1, 2, 3]), Verdict::Fine);
        assert!(matches!(
            agreement.take(vote(2000, 9), 2, &[1, 2, 3]),
            Verdict::Speak(Vote { digest: 5, .. })
        ));
    }
}
