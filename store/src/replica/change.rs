//! Changes of the membership on their way into the log. Each says which membership it was decided on, and where another one
//! holds by the time it is applied, it is void, on every member: a copy that comes late would make a voter a learner again,
//! or take in who has been removed since.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType};

/// Ends the context of a change.
const MARK: u8 = 0xc8;
/// The length of the membership, [`MARK`].
const END: usize = 2 + 1;

/// A membership as bytes, the same on every member.
fn bytes(conf: &ConfState) -> Vec<u8> {
    let mut conf = conf.clone();
    conf.voters.sort_unstable();
    conf.voters_outgoing.sort_unstable();
    conf.learners.sort_unstable();
    conf.learners_next.sort_unstable();
    conf.write_to_bytes().expect("a message in memory always encodes")
}

/// `context` followed by the membership that the change is of.
pub(super) fn seal(context: &[u8], on: &ConfState) -> Vec<u8> {
    let on = bytes(on);
    let length = u16::try_from(on.len()).expect("a few members");
    [context, &on, &length.to_le_bytes(), &[MARK]].concat()
}

/// Takes the membership off a committed change, and makes of a void one an entry that says nothing. What raft itself
/// proposes has none.
pub(super) fn open(entry: &mut Entry, now: &ConfState) {
    let Some((own, on)) = parts(&entry.context) else {
        return;
    };
    let void = entry.context[on] != bytes(now);
    entry.context = entry.context.slice(..own);
    if void {
        entry.set_entry_type(EntryType::EntryNormal);
        entry.data = Bytes::new();
    }
}

/// The length of the context, and where the membership is.
fn parts(context: &[u8]) -> Option<(usize, std::ops::Range<usize>)> {
    let end = context.len().checked_sub(END)?;
    let &[low, high, MARK] = &context[end..] else {
        return None;
    };
    let own = end.checked_sub(usize::from(u16::from_le_bytes([low, high])))?;
    Some((own, own..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(voters: &[u64], learners: &[u64]) -> ConfState {
        ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        }
    }

    #[track_caller]
    fn check(context: Vec<u8>, now: &ConfState, (own, void): (&[u8], bool)) {
        let mut entry = Entry {
            context: context.into(),
            data: Bytes::from_static(b"change"),
            ..Entry::default()
        };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        open(&mut entry, now);
        assert_eq!(entry.context, own);
        assert_eq!(entry.data.is_empty(), void);
        assert_eq!(entry.get_entry_type() == EntryType::EntryNormal, void);
    }

    #[test]
    fn a_change_is_of_one_membership() {
        let on = conf(&[1, 2], &[3, 4]);
        check(seal(b"whose", &on), &conf(&[2, 1], &[4, 3]), (b"whose", false));
        check(seal(b"whose", &on), &conf(&[1, 2, 3], &[4]), (b"whose", true));
        check(seal(b"", &on), &conf(&[1, 2], &[3]), (b"", true));
        check(Vec::new(), &on, (b"", false));
        check(
            b"of an older build\0".to_vec(),
            &on,
            (b"of an older build\0", false),
        );
        check(vec![9, 0, MARK], &on, (&[9, 0, MARK], false));
    }
}
