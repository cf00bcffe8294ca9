//! The kinds of hostile clients. Each goes on until it is told to stop, and comes back whenever it is cut off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{Session, Target, request};

pub const KINDS: [&str; 8] = [
    "lists that nobody reads",
    "huge lists",
    "watches opened and dropped",
    "floods of headers",
    "requests given up at once",
    "handshakes that never end",
    "bodies that never end",
    "watches that nobody reads",
];

const LIST: &str = "/api/v1/configmaps";
/// Watches that one client opens at once.
const WATCHES: usize = 50;
/// Requests that one client gives up at once.
const RESETS: usize = 100;
/// Longest time a client holds on to one connection.
const HOLD: Duration = Duration::from_secs(60);
/// Before it comes back after it was cut off.
const BACK: Duration = Duration::from_millis(100);

pub async fn run(kind: usize, server: &Target, token: &str, over: &AtomicBool, count: &AtomicU64) {
    while !over.load(Ordering::SeqCst) {
        let turn = async {
            match kind {
                0 => unread_list(server, token, count).await,
                1 => huge_lists(server, token, count).await,
                2 => watch_storm(server, token, count).await,
                3 => headers(server, count).await,
                4 => resets(server, token, count).await,
                5 => handshake(server, count).await,
                6 => endless_body(server, token, count).await,
                _ => unread_watches(server, token, count).await,
            }
        };
        // Being refused or cut off is what it is for.
        let _ = tokio::time::timeout(HOLD, turn).await;
        tokio::time::sleep(BACK).await;
    }
}

fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Asks on a plain connection and reads only the answer's first bytes.
async fn unread_list(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut stream = server.tls(server.nobody(), "http/1.1").await?;
    let head = format!("GET {LIST} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut some = [0; 64];
    stream.read_exact(&mut some).await?;
    one_more(count);
    tokio::time::sleep(HOLD).await;
    Ok(())
}

async fn huge_lists(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut session = server.connect(server.nobody()).await?;
    loop {
        let list = request("GET", LIST, Some(token)).body(Full::<Bytes>::default())?;
        session.sender.ready().await?;
        let mut answer = session.sender.send_request(list).await?;
        let limited = answer.status() == 429;
        one_more(count);
        while let Some(frame) = answer.body_mut().frame().await {
            frame?;
        }
        if limited {
            tokio::time::sleep(BACK).await;
        }
    }
}

async fn watch_storm(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut session = server.connect(server.nobody()).await?;
    loop {
        let mut open = Vec::new();
        for _ in 0..WATCHES {
            let path = format!("{LIST}?watch=1&resourceVersion=0");
            let watch = request("GET", &path, Some(token)).body(Full::<Bytes>::default())?;
            session.sender.ready().await?;
            open.push(session.sender.send_request(watch).await?);
            one_more(count);
        }
        drop(open);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn headers(server: &Target, count: &AtomicU64) -> Result<()> {
    let mut stream = server.tls(server.nobody(), "http/1.1").await?;
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n").await?;
    let line = format!("x-flood: {}\r\n", "a".repeat(1000));
    loop {
        stream.write_all(line.as_bytes()).await?;
        one_more(count);
    }
}

/// Sends requests and resets them before their answers.
async fn resets(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut session: Session = server.connect(server.nobody()).await?;
    loop {
        for _ in 0..RESETS {
            let list = request("GET", LIST, Some(token)).body(Full::<Bytes>::default())?;
            session.sender.ready().await?;
            let answer = session.sender.send_request(list);
            let _ = answer.now_or_never(); // sent, and dropped
            one_more(count);
        }
        tokio::task::yield_now().await;
    }
}

async fn handshake(server: &Target, count: &AtomicU64) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = server.tcp().await?;
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await?; // the first bytes of a ClientHello
        open.push(stream);
        one_more(count);
    }
    let mut end = [0; 1];
    let _ = open[0].read(&mut end).await; // until the server has had enough
    Ok(())
}

async fn endless_body(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut stream = server.tls(server.nobody(), "http/1.1").await?;
    let path = "/api/v1/namespaces/default/configmaps";
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await?;
    one_more(count);
    loop {
        stream.write_all(b" ").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Opens watches with all objects as their first events and reads none.
async fn unread_watches(server: &Target, token: &str, count: &AtomicU64) -> Result<()> {
    let mut session = server.connect(server.nobody()).await?;
    let mut open = Vec::new();
    for _ in 0..WATCHES {
        let options =
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let watch =
            request("GET", &format!("{LIST}?{options}"), Some(token)).body(Full::<Bytes>::default())?;
        session.sender.ready().await?;
        open.push(session.sender.send_request(watch).await?);
        one_more(count);
    }
    while !session.sender.is_closed() {
        tokio::time::sleep(BACK).await;
    }
    Ok(())
}
