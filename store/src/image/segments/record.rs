//! The bytes of a segment: a head, then records, each with a checksum that goes on from the record before, across
//! segments, so that what is stale, missing or in another's place does not fit. Plain functions.

use bytes::Bytes;

use crate::image::{ImageError, Meta, decode_meta, encode_meta};
use crate::model::{Entry, Memo, Revision};

/// Length and checksum of a record.
const FRAME: usize = 4 + 4;
const MAGIC: &[u8; 8] = b"CRTimg01";
const HEAD: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMMIT: u8 = 3;
/// What a put takes besides its key and value.
pub const PUT_OVERHEAD: u64 = (FRAME + 1 + 8 + 8 + 4) as u64;

/// What a segment says, in order.
#[derive(Debug)]
pub enum Record<'a> {
    /// Starts a segment; `chain` is that of the segment before it, at its end.
    Head {
        number: u64,
        chain: u32,
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
        create: Revision,
        modified: Revision,
    },
    Delete {
        key: &'a [u8],
    },
    /// All records up to here are an image, which starts with the segment `first`.
    Commit {
        first: u64,
        meta: &'a [u8],
    },
}

impl Record<'_> {
    /// The entry of a put, in memory of its own.
    pub fn entry(&self) -> Option<Entry> {
        let Record::Put {
            key,
            value,
            create,
            modified,
        } = *self
        else {
            return None;
        };
        Some(Entry {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            create_revision: create,
            mod_revision: modified,
            memo: Memo::default(),
        })
    }
}

/// Writes records behind one another.
#[derive(Debug)]
pub struct Encoder {
    /// The checksum of the newest record.
    pub chain: u32,
    pub out: Vec<u8>,
}

impl Encoder {
    pub fn head(&mut self, number: u64) {
        let before = self.chain;
        self.chain = 0;
        self.record(&[&[HEAD], MAGIC, &number.to_le_bytes(), &before.to_le_bytes()]);
    }

    pub fn put(&mut self, entry: &Entry) {
        let length = u32::try_from(entry.key.len()).expect("a key is far below 4 GiB");
        self.record(&[
            &[PUT],
            &entry.create_revision.0.to_le_bytes(),
            &entry.mod_revision.0.to_le_bytes(),
            &length.to_le_bytes(),
            &entry.key,
            &entry.value,
        ]);
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.record(&[&[DELETE], key]);
    }

    pub fn commit(&mut self, first: u64, meta: &Meta) {
        self.record(&[&[COMMIT], &first.to_le_bytes(), &encode_meta(meta)]);
    }

    fn record(&mut self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length).expect("a record is far below 4 GiB");
        let start = self.out.len();
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&[0; 4]);
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.chain = checksum(self.chain, length, &self.out[start + FRAME..]);
        self.out[start + 4..start + FRAME].copy_from_slice(&self.chain.to_le_bytes());
    }
}

fn checksum(before: u32, length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(before);
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Reads records one by one, as long as they fit.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    /// Where the next record starts, and the checksum it goes on from.
    pub at: usize,
    pub chain: u32,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder {
            bytes,
            at: 0,
            chain: 0,
        }
    }

    /// `None` at the end of what is whole.
    pub fn next_record(&mut self) -> Option<Record<'a>> {
        let rest = &self.bytes[self.at..];
        let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let (length, found) = (word(0)?, word(4)?);
        let body = rest.get(FRAME..FRAME.checked_add(length as usize)?)?;
        if checksum(self.chain, length, body) != found {
            return None;
        }
        let record = decode(body)?;
        self.at += FRAME + length as usize;
        self.chain = found;
        Some(record)
    }
}

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (kind, body) = body.split_first()?;
    let word = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    match *kind {
        HEAD if body.get(..8)? == MAGIC => Some(Record::Head {
            number: word(8)?,
            chain: half(16)?,
        }),
        PUT => {
            let (key, value) = body.get(20..)?.split_at_checked(half(16)? as usize)?;
            Some(Record::Put {
                key,
                value,
                create: Revision(word(0)?),
                modified: Revision(word(8)?),
            })
        }
        DELETE => Some(Record::Delete { key: body }),
        COMMIT => Some(Record::Commit {
            first: word(0)?,
            meta: body.get(8..)?,
        }),
        _ => None,
    }
}

/// The newest commit of a segment.
#[derive(Debug)]
pub struct Commit {
    /// Where it ends, and the chain with it.
    pub end: u64,
    pub chain: u32,
    pub first: u64,
    pub meta: Meta,
}

/// What one segment holds, as far as it is whole. `None`: it does not even start as the segment of that number.
pub fn newest_commit(bytes: &[u8], number: u64) -> Option<Result<Option<Commit>, ImageError>> {
    let mut decoder = Decoder::new(bytes);
    match decoder.next_record()? {
        Record::Head { number: found, .. } if found == number => (),
        _ => return None,
    }
    let mut newest = None;
    while let Some(record) = decoder.next_record() {
        if let Record::Commit { first, meta } = record {
            newest = Some((decoder.at as u64, decoder.chain, first, meta));
        }
    }
    let Some((end, chain, first, meta)) = newest else {
        return Some(Ok(None));
    };
    Some(decode_meta(meta).map(|meta| {
        Some(Commit {
            end,
            chain,
            first,
            meta,
        })
    }))
}
