//! Serves one container's log file: the tail, then, with `follow`, what is added until the container has ended.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::format::Formatter;
use super::inotify::Inotify;
use crate::tunnel::LogOptions;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;
/// Blocks that wait for a slow client before reading stops.
const BLOCKS_AHEAD: usize = 4;
/// A line longer than this is given out in parts. The runtime splits lines at 16 KiB.
const LINE_LIMIT: usize = 1 << 20;

/// `ended` turns true when the container has stopped writing. Errors come as the first item.
pub fn read(
    path: PathBuf,
    options: LogOptions,
    ended: watch::Receiver<bool>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (send, receive) = mpsc::channel(BLOCKS_AHEAD);
    tokio::spawn(async move {
        let result = tokio::select! {
            result = pump(&path, options, ended, &send) => result,
            () = send.closed() => return,
        };
        if let Err(error) = result {
            // The client has gone if this fails, and then nobody is left to tell.
            let _ = send.send(Err(error)).await;
        }
    });
    ReceiverStream::new(receive).boxed()
}

type Sender = mpsc::Sender<io::Result<Bytes>>;

async fn pump(
    path: &Path,
    options: LogOptions,
    mut ended: watch::Receiver<bool>,
    send: &Sender,
) -> io::Result<()> {
    let mut file = File::open(path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_offset(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let follow = options.follow;
    let mut formatter = Formatter::new(options);
    let mut carry = Vec::new();
    // Watching begins before the first read to the end, so that no change falls in between.
    let notify = if follow { Some(Watch::new(path)?) } else { None };
    loop {
        // Looked at before reading: what was written before the end is read after this.
        let over = *ended.borrow_and_update();
        if !drain(&mut file, &mut carry, &mut formatter, send).await? {
            return Ok(());
        }
        let Some(notify) = &notify else { return Ok(()) };
        if let Some(next) = rotated(&file, path).await? {
            file = next;
            notify.renew(path)?;
            continue;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            changed = notify.inotify.next() => { changed?; }
            changed = ended.changed() => {
                if changed.is_err() {
                    return Ok(()); // the Pod is gone
                }
            }
        }
    }
}

struct Watch {
    inotify: Inotify,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Watch> {
        let inotify = Inotify::new()?;
        // The directory tells of rotation, the file of new lines.
        inotify.add(path.parent().unwrap_or(path), libc::IN_CREATE | libc::IN_MOVED_TO)?;
        let watch = Watch { inotify };
        watch.renew(path)?;
        Ok(watch)
    }

    fn renew(&self, path: &Path) -> io::Result<()> {
        self.inotify.add(path, libc::IN_MODIFY).map(|_| ())
    }
}

/// Sends everything up to the file's end; `false` once the client's limit is reached or it has gone.
async fn drain(
    file: &mut File,
    carry: &mut Vec<u8>,
    formatter: &mut Formatter,
    send: &Sender,
) -> io::Result<bool> {
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block).await?;
        if read == 0 {
            return Ok(true);
        }
        carry.extend_from_slice(&block[..read]);
        let mut out = Vec::new();
        let mut more = true;
        let mut done = 0;
        while let Some(end) = carry[done..].iter().position(|byte| *byte == b'\n') {
            more = formatter.feed(&carry[done..done + end], &mut out);
            done += end + 1;
            if !more {
                break;
            }
        }
        if more && carry.len() - done > LINE_LIMIT {
            more = formatter.feed(&carry[done..], &mut out);
            done = carry.len();
        }
        carry.drain(..done);
        if !out.is_empty() && send.send(Ok(Bytes::from(out))).await.is_err() {
            return Ok(false);
        }
        if !more {
            return Ok(false);
        }
    }
}

/// The file now at `path`, if it is another one than `file`.
async fn rotated(file: &File, path: &Path) -> io::Result<Option<File>> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata().await?;
    match File::open(path).await {
        Ok(now) if now.metadata().await?.ino() != open.ino() => Ok(Some(now)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last `lines` lines begin. Reads backwards, block by block.
async fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let length = file.metadata().await?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut missing = lines;
    let mut end = length;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(part).await?;
        for (place, byte) in part.iter().enumerate().rev() {
            let at = start + place as u64;
            // The line end of the last line begins no line.
            if *byte == b'\n' && at + 1 < length {
                missing -= 1;
                if missing == 0 {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line(number: usize) -> String {
        format!("2026-11-21T03:00:00.{number:09}Z stdout F line {number}\n")
    }

    #[track_caller]
    fn check(lines: usize, tail: Option<u64>, wanted: &[usize]) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, (0..lines).map(line).collect::<String>()).expect("written");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (_keep, ended) = watch::channel(false);
        let options = LogOptions {
            tail_lines: tail,
            ..LogOptions::default()
        };
        let parts: Vec<_> = runtime.block_on(async { read(path, options, ended).collect().await });
        let text: Vec<u8> = parts
            .into_iter()
            .flat_map(|part| part.expect("read").to_vec())
            .collect();
        let wanted: String = wanted.iter().map(|number| format!("line {number}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&text), wanted);
    }

    #[test]
    fn tails() {
        check(3, None, &[0, 1, 2]);
        check(3, Some(2), &[1, 2]);
        check(3, Some(9), &[0, 1, 2]);
        check(3, Some(0), &[]);
        check(5_000, Some(2), &[4_998, 4_999]);
    }

    #[tokio::test]
    async fn follows_through_rotation_until_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        std::fs::write(&path, line(0)).expect("written");
        let (end, ended) = watch::channel(false);
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let mut stream = read(path.clone(), options, ended);
        let next = async |stream: &mut BoxStream<'static, io::Result<Bytes>>| {
            let item = tokio::time::timeout(Duration::from_secs(10), stream.next())
                .await
                .expect("in time");
            item.map(|part| String::from_utf8_lossy(&part.expect("read")).into_owned())
        };
        assert_eq!(next(&mut stream).await.as_deref(), Some("line 0\n"));
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("opened");
        file.write_all(line(1).as_bytes()).expect("written");
        assert_eq!(next(&mut stream).await.as_deref(), Some("line 1\n"));
        std::fs::rename(&path, directory.path().join("0.log.old")).expect("renamed");
        std::fs::write(&path, line(2)).expect("written");
        assert_eq!(next(&mut stream).await.as_deref(), Some("line 2\n"));
        end.send(true).expect("still read");
        assert_eq!(next(&mut stream).await, None);
    }
}
