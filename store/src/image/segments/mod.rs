//! The image on disk, in files to which records are only appended: a batch is its changes and a commit, then one fsync. A key
//! costs its bytes and no page is read, so the image keeps up with the log. The oldest file is cleaned when there is too
//! much that was written over: what of it still counts is appended again, and the file goes.
//!
//! The newest commit that is whole says which files the image is made of and what it adds up to. What follows it is a torn
//! batch that nobody was promised; anything else that does not fit is damage. An older commit than the last
//! acknowledged one shows, too: the log has been cut behind it.

pub(crate) mod folder;
mod load;
mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Batch, Image, ImageError, Meta, decode_meta, verify};
use crate::model::Entry;
use crate::space::Space;
use crate::tree::Tree;
use folder::{Disk, Folder, Segment};
use record::{Encoder, PUT_OVERHEAD, Record, newest_commit};

/// One file; smaller where the file system is.
const SEGMENT_BYTES: u64 = 16 << 20;
const MIN_SEGMENT_BYTES: u64 = 128 << 10;
/// One file may take this share of a small file system.
const SEGMENT_SHARE: u64 = 256;
/// The oldest file is cleaned when all are this many times as large as what they hold, and larger than a few megabytes.
const CLEAN_TIMES: u64 = 2;
const CLEAN_BYTES: u64 = 16 << 20;
/// Without room on the disk they are cleaned as soon as what was written over takes this share of the reserve.
const TIGHT_SHARE: u64 = 4;
/// Files cleaned after one batch; without room on the disk, as many as it takes.
const CLEANED_AT_ONCE: usize = 8;
/// Written with one call.
const WRITE_BYTES: usize = 1 << 20;
/// A batch without room on the disk is tried again after this long.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

pub struct SegmentImage {
    disk: Box<dyn Disk>,
    path: PathBuf,
    space: Option<Arc<Space>>,
    segment_bytes: u64,
    /// `None`: not looked at yet, or an error left it unclear.
    open: Option<Open>,
}

/// What is on disk.
#[derive(Clone, Debug, Default)]
struct Open {
    /// Of the newest commit; `None` when there is none.
    meta: Option<Meta>,
    /// What the image is made of, oldest first.
    files: VecDeque<File>,
    /// The number of the newest file that was part of it.
    newest: u64,
}

#[derive(Clone, Copy, Debug)]
struct File {
    number: u64,
    length: u64,
    /// At its end.
    chain: u32,
}

impl Open {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// What the image would take if it were written anew.
    fn live(&self) -> u64 {
        let meta = self.meta.as_ref();
        meta.map_or(0, |meta| meta.bytes + meta.keys * PUT_OVERHEAD)
    }
}

impl SegmentImage {
    /// In this folder. Nothing is read or made before the first load or write.
    pub fn new(path: &Path) -> Self {
        SegmentImage {
            disk: Box::new(Folder(path.to_owned())),
            path: path.to_owned(),
            space: None,
            segment_bytes: SEGMENT_BYTES,
            open: None,
        }
    }

    /// In small files, on a disk that can lose power.
    #[cfg(test)]
    pub(crate) fn on(disk: impl Disk + 'static, segment_bytes: u64) -> Self {
        SegmentImage {
            disk: Box::new(disk),
            segment_bytes,
            ..SegmentImage::new(Path::new("memory"))
        }
    }

    /// The same, on a disk whose room is watched: a batch waits until there is room for it.
    #[must_use]
    pub fn within(self, space: Option<Arc<Space>>) -> Self {
        let total = space.as_ref().map_or(u64::MAX, |space| space.total());
        SegmentImage {
            segment_bytes: (total / SEGMENT_SHARE).clamp(MIN_SEGMENT_BYTES, SEGMENT_BYTES),
            space,
            ..self
        }
    }

    /// Finds the newest commit.
    fn look(&mut self) -> Result<Open, ImageError> {
        let listed = self.disk.list().map_err(error)?;
        let (mut open, mut bytes) = (Open::default(), Vec::new());
        for (at, (number, _)) in listed.iter().enumerate().rev() {
            let file = self.disk.open(*number).map_err(error)?;
            file.read(&mut bytes).map_err(error)?;
            let Some(newest) = newest_commit(&bytes, *number) else {
                continue;
            };
            let Some(commit) = newest? else { continue };
            // It may never have been synced: a process that is killed leaves it in the system's memory.
            file.sync().map_err(error)?;
            self.disk.sync_names().map_err(error)?;
            let first = listed.iter().position(|(number, _)| *number == commit.first);
            let first = first.ok_or_else(|| damaged(commit.first, "is missing"))?;
            for (n, (number, length)) in listed[first..=at].iter().enumerate() {
                if *number != commit.first + n as u64 {
                    return Err(damaged(commit.first + n as u64, "is missing"));
                }
                open.files.push_back(File {
                    number: *number,
                    length: *length,
                    chain: 0,
                });
            }
            let last = open.files.back_mut().expect("at least this one");
            (last.length, last.chain) = (commit.end, commit.chain);
            open.newest = last.number;
            open.meta = Some(commit.meta);
            break;
        }
        Ok(open)
    }

    fn opened(&mut self) -> Result<&mut Open, ImageError> {
        if self.open.is_none() {
            self.open = Some(self.look()?);
        }
        Ok(self.open.as_mut().expect("just looked"))
    }

    fn load_all(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
        if folder::older_format(&self.path).exists() {
            let text = "it is of an older format, which this version does not read";
            return Err(ImageError::Damaged(text.into()));
        }
        let mut open = self.look()?;
        let Some(meta) = open.meta.clone() else {
            self.open = Some(open);
            return Ok(None);
        };
        let (tree, sums) = load::load(&mut *self.disk, &mut open.files)?;
        verify(&meta, &tree, sums)?;
        self.open = Some(open);
        Ok(Some((meta, tree)))
    }

    /// One batch; after an error it is not in the image.
    fn write_once(&mut self, batch: &Batch) -> Result<(), ImageError> {
        let open = self.opened()?.clone();
        let mut writer = Writer::new(&*self.disk, open, self.segment_bytes);
        if batch.replace {
            writer.start_anew()?;
        }
        for key in &batch.deletes {
            writer.record(|encoder| encoder.delete(key))?;
        }
        for entry in &batch.puts {
            writer.record(|encoder| encoder.put(entry))?;
        }
        let open = writer.commit(&batch.meta)?;
        self.settle(open)
    }

    /// What was committed is the image now; what is not part of it goes.
    fn settle(&mut self, open: Open) -> Result<(), ImageError> {
        let ends = open.files.front().zip(open.files.back());
        let image = ends.map_or(0..=0, |(first, last)| first.number..=last.number);
        self.open = Some(open);
        for (number, _) in self.disk.list().map_err(error)? {
            if !image.contains(&number) {
                self.disk.remove(number).map_err(error)?;
            }
        }
        Ok(())
    }

    /// Whether too much of the files was written over.
    fn is_loose(&self, tight: Option<&Space>) -> bool {
        let Some(open) = &self.open else { return false };
        let (bytes, live) = (open.bytes(), open.live());
        let limit = match tight {
            Some(space) => live + space.reserve() / TIGHT_SHARE + 2 * self.segment_bytes,
            None => CLEAN_BYTES.max(CLEAN_TIMES * live),
        };
        open.files.len() > 1 && bytes > limit
    }

    /// Appends what still counts of the oldest file, as `state` tells, and deletes it.
    fn clean_oldest(&mut self, state: &Tree) -> Result<(), ImageError> {
        let open = self.opened()?.clone();
        let Some((oldest, meta)) = open.files.front().copied().zip(open.meta.clone()) else {
            return Ok(());
        };
        let mut kept: Vec<Arc<Entry>> = Vec::new();
        load::read(&*self.disk, oldest, &mut Vec::new(), |record| {
            if let Record::Put { key, modified, .. } = record
                && let Some(entry) = state.get(key)
                && entry.mod_revision == *modified
            {
                kept.push(entry.clone());
            }
        })?;
        let mut writer = Writer::new(&*self.disk, open, self.segment_bytes);
        for entry in kept {
            writer.record(|encoder| encoder.put(&entry))?;
        }
        writer.open.files.pop_front();
        let open = writer.commit(&meta)?;
        self.settle(open)
    }

    /// Keeps the files from growing much beyond what they hold. All of it can wait.
    fn clean(&mut self, state: &Tree) -> Result<(), ImageError> {
        let space = self.space.clone();
        let tight = space.as_deref().filter(|space| space.is_full());
        // Once around is enough for what can be gained.
        let most = match tight {
            Some(_) => self.opened()?.files.len(),
            None => CLEANED_AT_ONCE,
        };
        let mut cleaned = 0;
        while cleaned < most && self.is_loose(tight) {
            match self.clean_oldest(state) {
                Ok(()) => cleaned += 1,
                Err(error) if is_no_space(&error) => {
                    tracing::warn!(%error, "no room to clean the image");
                    self.open = None;
                    return Ok(());
                }
                Err(ImageError::Damaged(what)) => {
                    tracing::error!(what, "the image is damaged on disk: it is written anew");
                    let meta = self
                        .opened()?
                        .meta
                        .clone()
                        .expect("a damaged file is of an image");
                    let whole = Batch {
                        replace: true,
                        puts: state.iter().cloned().collect(),
                        deletes: Vec::new(),
                        meta,
                        state: state.clone(),
                    };
                    return self.write(&whole);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A batch on its way into the files.
struct Writer<'a> {
    disk: &'a dyn Disk,
    open: Open,
    segment_bytes: u64,
    file: Option<Box<dyn Segment>>,
    encoder: Encoder,
    /// Names were made.
    named: bool,
}

impl<'a> Writer<'a> {
    fn new(disk: &'a dyn Disk, open: Open, segment_bytes: u64) -> Self {
        let chain = open.files.back().map_or(0, |file| file.chain);
        let out = Vec::with_capacity(WRITE_BYTES);
        Writer {
            disk,
            open,
            segment_bytes,
            file: None,
            encoder: Encoder { chain, out },
            named: false,
        }
    }

    /// Nothing of what is there is part of the image any more.
    fn start_anew(&mut self) -> Result<(), ImageError> {
        self.open.files.clear();
        self.next_file()
    }

    fn next_file(&mut self) -> Result<(), ImageError> {
        self.flush()?;
        // A commit in the next file may survive by chance; then all before it has to be there.
        if let Some(full) = self.file.take() {
            full.sync().map_err(error)?;
        }
        if std::mem::take(&mut self.named) {
            self.disk.sync_names().map_err(error)?;
        }
        self.open.newest += 1;
        let number = self.open.newest;
        self.file = Some(self.disk.create(number).map_err(error)?);
        self.named = true;
        self.open.files.push_back(File {
            number,
            length: 0,
            chain: 0,
        });
        self.encoder.head(number);
        Ok(())
    }

    fn record(&mut self, encode: impl FnOnce(&mut Encoder)) -> Result<(), ImageError> {
        let last = self.open.files.back().copied();
        if let Some(last) = last.filter(|_| self.file.is_none()) {
            let file = self.disk.open(last.number).map_err(error)?;
            // What a torn batch has left. Synced with what follows, here or before the next file is begun.
            file.truncate(last.length).map_err(error)?;
            self.file = Some(file);
        }
        let full = |last: File| last.length + self.encoder.out.len() as u64 >= self.segment_bytes;
        if last.is_none_or(full) {
            self.next_file()?;
        }
        encode(&mut self.encoder);
        if self.encoder.out.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImageError> {
        if let (Some(file), Some(last)) = (&self.file, self.open.files.back_mut()) {
            file.write_at(&self.encoder.out, last.length).map_err(error)?;
            last.length += self.encoder.out.len() as u64;
            last.chain = self.encoder.chain;
            self.encoder.out.clear();
        }
        Ok(())
    }

    fn commit(mut self, meta: &Meta) -> Result<Open, ImageError> {
        // Of an image without a file the commit makes the first one.
        let first = self
            .open
            .files
            .front()
            .map_or(self.open.newest + 1, |file| file.number);
        self.record(|encoder| encoder.commit(first, meta))?;
        self.flush()?;
        self.file
            .as_ref()
            .expect("a record was written")
            .sync()
            .map_err(error)?;
        if self.named {
            self.disk.sync_names().map_err(error)?;
        }
        self.open.meta = Some(meta.clone());
        Ok(self.open)
    }
}

fn damaged(number: u64, what: &str) -> ImageError {
    ImageError::Damaged(format!("segment {number} {what}"))
}

fn error(source: std::io::Error) -> ImageError {
    ImageError::Engine(Box::new(source))
}

fn is_no_space(error: &ImageError) -> bool {
    let ImageError::Engine(source) = error else {
        return false;
    };
    let source: Option<&std::io::Error> = source.downcast_ref();
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::StorageFull)
}

impl Image for SegmentImage {
    fn load(&mut self) -> Result<Option<(Meta, Tree)>, ImageError> {
        self.load_all()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), ImageError> {
        while let Err(error) = self.write_once(batch) {
            // Where the files end has to be looked at again.
            self.open = None;
            let Some(space) = self.space.as_ref().filter(|_| is_no_space(&error)) else {
                return Err(error);
            };
            // Nothing of the batch is in the image. The log keeps what the image does not have yet.
            tracing::error!(%error, "the image waits for room on the disk");
            if !space.give_up_placeholder() {
                std::thread::sleep(WAIT_FOR_ROOM);
            }
        }
        if let Some(space) = &self.space {
            space.look();
        }
        self.clean(&batch.state)?;
        if let Some(space) = &self.space {
            space.look();
        }
        Ok(())
    }

    /// A piece is one file.
    fn check(&mut self, after: Option<&[u8]>, _: u64) -> Result<(Option<Bytes>, u64), ImageError> {
        let after = after
            .and_then(|after| after.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let files = self.opened()?.files.clone();
        let Some(at) = files.iter().position(|file| file.number > after) else {
            return Ok((None, 0));
        };
        let file = files[at];
        self.disk.forget_cached(file.number);
        let mut newest = None;
        let (before, chain) = load::read(&*self.disk, file, &mut Vec::new(), |record| {
            if let Record::Commit { meta, .. } = record {
                newest = Some(decode_meta(meta).is_ok());
            }
        })?;
        let earlier = at.checked_sub(1).map(|earlier| files[earlier].chain);
        // What was never read has no chain to compare with.
        let follows = earlier.is_none_or(|earlier| earlier == 0 || earlier == before);
        if !follows || (file.chain != 0 && file.chain != chain) || newest == Some(false) {
            return Err(damaged(file.number, "is not as it was written"));
        }
        let more = at + 1 < files.len();
        let next = more.then(|| Bytes::copy_from_slice(&file.number.to_be_bytes()));
        Ok((next, file.length))
    }

    fn set_aside(&mut self) -> Result<(), ImageError> {
        self.open = None;
        self.disk.set_aside().map_err(error)
    }

    fn disk_bytes(&self) -> u64 {
        match &self.open {
            Some(open) => open.bytes(),
            None => self
                .disk
                .list()
                .unwrap_or_default()
                .iter()
                .map(|(_, length)| length)
                .sum(),
        }
    }
}
