//! Witnesses: members that vote and hold the newest part of the log, but no state. Two servers and a witness survive the
//! loss of any one of the three.
//!
//! A member is a witness by its id, so that everyone knows it without looking anything up, before any state is there. It
//! skips what it would apply; its image is empty and only says up to where the log was cut, and with which members. To it a
//! snapshot is just that. So its disk is bounded by [`INTERVAL`], and it can give the entries it holds, but no state:
//! it leads only when nobody else can (the one other member that lives lacks an entry that only the witness has), and
//! hands over as soon as that one has caught up.
//!
//! The limit that follows: a server that lags by more than the witness's log cannot be brought up by it. It waits for the
//! other server.

use crate::image::trail::Interval;

/// How much of the log a witness keeps: once to twice as much.
pub const INTERVAL: Interval = Interval {
    entries: 100_000,
    bytes: 64 << 20,
};

/// Ids of witnesses are even and large; those of other members are odd. Small ids are given by hand, in tests.
#[must_use]
pub const fn is_witness(member: u64) -> bool {
    member & 1 == 0 && member > u32::MAX as u64
}

/// The id of a witness, out of a random number.
#[must_use]
pub const fn witness_id(random: u64) -> u64 {
    (random & !1) | 1 << 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_known_by_its_id() {
        for random in [0, 1, 2, u64::MAX, 1 << 40] {
            assert!(is_witness(witness_id(random)));
            assert!(!is_witness(random | 1));
        }
        assert!(!is_witness(2), "a member of a test");
    }
}
