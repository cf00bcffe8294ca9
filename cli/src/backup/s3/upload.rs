//! An object on its way into the bucket: in one request, or in parts where it is large. Nothing is kept in memory, and of an
//! upload that fails nothing stays. Source: Amazon S3, "Uploading and copying objects using multipart upload".

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};

use super::sign::hex;
use super::{Ask, Body, Bucket, element, text};

/// What is larger goes in parts of this size, of which S3 takes 10,000: 2.4 TiB. The last part may be smaller.
pub(super) const PART_BYTES: u64 = 256 << 20;
const MAX_PARTS: u64 = 10_000;
const CHUNK: usize = 256 << 10;

/// A body with its length and its digest.
pub(super) type Sized = (Body, u64, String);

impl Bucket {
    /// # Errors
    /// In words for the user.
    pub async fn put(&self, name: &str, file: &Path) -> Result<()> {
        let file = Arc::new(File::open(file)?);
        let length = file.metadata()?.len();
        if length <= self.part_bytes {
            let body = piece(&file, 0, length).await?;
            let ask = ask(Method::PUT, name, &[]);
            return text(self.send(ask, Some(body)).await?).await.map(drop);
        }
        let parts = length.div_ceil(self.part_bytes);
        ensure!(
            parts <= MAX_PARTS,
            "a backup of {length} bytes is too large for one object"
        );
        let begun = text(
            self.send(ask(Method::POST, name, &[("uploads", "")]), None)
                .await?,
        )
        .await?;
        let id = element(&begun, "UploadId").context("the store names no upload")?;
        let sent = self.send_parts(name, &id, &file, length).await;
        if sent.is_err() {
            // Parts that nobody puts together cost money. What went wrong first is what the user has to know.
            let query = [("uploadId", id.as_str())];
            let _ = self.send(ask(Method::DELETE, name, &query), None).await;
        }
        sent
    }

    async fn send_parts(&self, name: &str, id: &str, file: &Arc<File>, length: u64) -> Result<()> {
        let mut list = String::from("<CompleteMultipartUpload>");
        for (number, first) in (1u64..).zip((0..length).step_by(self.part_bytes as usize)) {
            let body = piece(file, first, self.part_bytes.min(length - first)).await?;
            let part = number.to_string();
            let query = [("partNumber", part.as_str()), ("uploadId", id)];
            let answer = self.send(ask(Method::PUT, name, &query), Some(body)).await?;
            let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
            let tag = tag.context("the store gives a part no tag")?.to_owned();
            text(answer).await?;
            let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
            write!(
                list,
                "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            )?;
        }
        list.push_str("</CompleteMultipartUpload>");
        let digest = hex(&Sha256::digest(&list));
        let length = list.len() as u64;
        let body = Full::new(Bytes::from(list)).map_err(|never| match never {});
        let body = (body.boxed_unsync(), length, digest);
        let query = [("uploadId", id)];
        let said = text(self.send(ask(Method::POST, name, &query), Some(body)).await?).await?;
        // An upload may fail after its status was sent.
        match element(&said, "Code") {
            Some(code) => bail!("{name}: {code} {}", element(&said, "Message").unwrap_or_default()),
            None => Ok(()),
        }
    }
}

fn ask<'a>(method: Method, name: &'a str, query: &'a [(&'a str, &'a str)]) -> Ask<'a> {
    Ask {
        method,
        name: Some(name),
        query,
        range: None,
    }
}

/// `length` bytes of a file from `first` on, read twice: the digest goes in front.
async fn piece(file: &Arc<File>, first: u64, length: u64) -> Result<Sized> {
    let end = first + length;
    let read = file.clone();
    let digest = tokio::task::spawn_blocking(move || {
        let (mut hasher, mut at) = (Sha256::new(), first);
        while at < end {
            let chunk = chunk(&read, at, end)?;
            hasher.update(&chunk);
            at += chunk.len() as u64;
        }
        std::io::Result::Ok(hex(&hasher.finalize()))
    })
    .await??;
    let chunks = futures::stream::try_unfold((file.clone(), first), move |(file, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || chunk(&file, at, end).map(|chunk| (file, chunk)));
        let (file, chunk) = read.await.map_err(std::io::Error::other)??;
        let next = at + chunk.len() as u64;
        Ok(Some((Frame::data(chunk), (file, next))))
    });
    Ok((StreamBody::new(chunks).boxed_unsync(), length, digest))
}

fn chunk(file: &File, at: u64, end: u64) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; CHUNK.min((end - at) as usize)];
    file.read_exact_at(&mut buffer, at)?;
    Ok(buffer.into())
}
