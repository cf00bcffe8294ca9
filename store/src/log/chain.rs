//! The header that every log record carries, in front of the entry's context: where the record belongs, what came
//! before it, and what it holds. Bit rot, a misdirected or stale block, and a record of another member all show as a
//! chain that does not fit. Knows records, not files.

use bytes::Bytes;
use raft::eraftpb::Entry;

use super::{Base, Identity};

/// Starts each header; found again in the raw bytes of a file.
const MAGIC: [u8; 4] = *b"CLr1";
/// magic, CRC-32 of the rest, batch number, durable index, index, term, hash of the record before, hash of this one.
const HEADER: usize = 4 + 4 + 6 * 8;
const PAGE: usize = 4096;

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Number of the batch it was written with; counts up over the life of the member.
    pub batch: u64,
    /// The newest entry that was durable, and is still part of the log, when the batch was written.
    pub durable: u64,
    pub index: u64,
    pub term: u64,
    /// The chain before this record and with it.
    pub before: u64,
    pub hash: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let words = [
            self.batch,
            self.durable,
            self.index,
            self.term,
            self.before,
            self.hash,
        ];
        for (slot, word) in out[8..].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        out[..4].copy_from_slice(&MAGIC);
        let crc = crc32fast::hash(&out[8..]).to_le_bytes();
        out[4..8].copy_from_slice(&crc);
        out
    }

    fn decode(record: &[u8]) -> Option<Header> {
        let header = record.get(..HEADER)?;
        let whole = header[..4] == MAGIC && header[4..8] == crc32fast::hash(&header[8..]).to_le_bytes();
        let mut words = header[8..]
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        let mut word = || words.next().expect("six words");
        whole.then(|| Header {
            batch: word(),
            durable: word(),
            index: word(),
            term: word(),
            before: word(),
            hash: word(),
        })
    }
}

/// The chain at a base: the records after it belong to this member and follow this entry.
pub(super) fn root(identity: Identity, base: &Base) -> u64 {
    [identity.cluster, identity.member, base.index, base.term]
        .into_iter()
        .fold(0, mix)
}

/// The record of an entry that follows `before`, and the chain with it.
pub(super) fn seal(entry: &Entry, before: u64, batch: u64, durable: u64) -> (Entry, u64) {
    let header = Header {
        batch,
        durable,
        index: entry.index,
        term: entry.term,
        before,
        hash: hash(entry, before),
    };
    let mut context = Vec::with_capacity(HEADER + entry.context.len());
    context.extend_from_slice(&header.encode());
    context.extend_from_slice(&entry.context);
    let sealed = Entry {
        context: context.into(),
        ..entry.clone()
    };
    (sealed, header.hash)
}

/// The entry of a record and its header, if the record is whole.
pub(super) fn unseal(mut record: Entry) -> Option<(Entry, Header)> {
    let header = Header::decode(&record.context)?;
    record.context = Bytes::copy_from_slice(&record.context[HEADER..]);
    let whole = (header.index, header.term) == (record.index, record.term)
        && header.hash == hash(&record, header.before);
    whole.then_some((record, header))
}

/// The header of the newest batch among all that can be read in the raw bytes of a file. Its `durable` proves what
/// an older part of the log must hold, whatever became of it.
pub(super) fn newest(bytes: &[u8]) -> Option<Header> {
    let mut newest: Option<Header> = None;
    let pages = bytes.chunks(PAGE).enumerate();
    // Most of a file can be space that was only allocated.
    for (number, page) in pages.filter(|(_, page)| *page != &[0; PAGE][..page.len()]) {
        let mut at = 0;
        while let Some(found) = page[at..].iter().position(|byte| *byte == MAGIC[0]) {
            at += found;
            if let Some(header) = Header::decode(&bytes[number * PAGE + at..])
                && newest.is_none_or(|newest| newest.batch <= header.batch)
            {
                newest = Some(header);
            }
            at += 1;
        }
    }
    newest
}

fn hash(entry: &Entry, before: u64) -> u64 {
    let kind = entry.get_entry_type() as u64;
    let (data, context) = (crc32fast::hash(&entry.data), crc32fast::hash(&entry.context));
    [
        entry.index,
        entry.term,
        kind << 32 | entry.data.len() as u64,
        u64::from(data) << 32 | u64::from(context),
    ]
    .into_iter()
    .fold(before, mix)
}

/// One round of splitmix64: every bit of both words reaches every bit of the result.
fn mix(state: u64, word: u64) -> u64 {
    let mut mixed = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            index: 7,
            term: 3,
            data: vec![1; 40].into(),
            context: vec![2; 24].into(),
            ..Entry::default()
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Entry), whole: bool) {
        let (mut record, _) = seal(&entry(), 11, 5, 6);
        change(&mut record);
        assert_eq!(unseal(record).is_some(), whole);
    }

    #[test]
    fn a_record_is_read_only_as_it_was_written() {
        let (record, hash) = seal(&entry(), 11, 5, 6);
        let (read, header) = unseal(record).expect("whole");
        assert_eq!(read, entry());
        assert_eq!(
            (header.batch, header.durable, header.before, header.hash),
            (5, 6, 11, hash)
        );
        check(|_| (), true);
        check(|record| record.index += 1, false);
        check(|record| record.term += 1, false);
        check(|record| record.data = vec![1; 41].into(), false);
        for at in 0..HEADER + 24 {
            let flip = |record: &mut Entry| {
                let mut context = record.context.to_vec();
                context[at] ^= 4;
                record.context = context.into();
            };
            check(flip, false);
        }
    }

    #[test]
    fn the_newest_batch_is_found_in_raw_bytes() {
        let mut bytes = vec![0x43; 100];
        for (batch, durable) in [(4, 1), (9, 5), (6, 8)] {
            bytes.extend_from_slice(&seal(&entry(), 0, batch, durable).0.context);
            bytes.extend_from_slice(&[0; 13]);
        }
        assert_eq!(newest(&bytes).map(|header| header.durable), Some(5));
        assert_eq!(newest(&bytes[..100]), None);
    }
}
