//! Exec and attach for WebSocket clients: channels of the WebSocket become streams of a SPDY connection.
//!
//! Channels 0 to 4 are stdin, stdout, stderr, error and resize. The error channel carries one `Status` as JSON,
//! which holds the exit code. Protocol v5 adds a CLOSE signal (byte 255, then the channel), without which nobody
//! could end stdin. Both directions run side by side, so a command that echoes cannot lock itself up.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use corten_api::Status;
use corten_proto::tunnel::Streams;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::pipe::{Upload, next};
use super::spdy::{Decoder, Encoder, Frame};
use super::websocket::{Handshake, Socket};
use super::{Dial, Opened};
use crate::body::Body;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// First byte of the v5 signal that a channel is closed.
const CLOSE: u8 = 255;

/// Subprotocols, the preferred first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// What is spoken with the runtime: exit codes on the error stream, and resizing.
const RUNTIME_PROTOCOL: &str = "v4.channel.k8s.io";
/// Time for the runtime to accept the streams. Source: the kubelet's and containerd's stream creation timeout.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take to read what is on its way and close, once the command has ended.
/// Source: kube-apiserver, `finishTimeout` of the stream translator.
const FINISH_LIMIT: Duration = Duration::from_secs(15 * 60);

/// # Errors
/// `BadRequest` without a known subprotocol; what the runtime answered.
pub async fn websocket(dial: Dial<'_>, parts: Parts, streams: Streams) -> Result<Response<Body>, Status> {
    let handshake = Handshake::read(parts)?;
    let Some(protocol) = PROTOCOLS
        .into_iter()
        .find(|p| handshake.offered.iter().any(|o| o == p))
    else {
        let message = format!(
            "unable to upgrade: unsupported subprotocols {:?}; supported are {PROTOCOLS:?}",
            handshake.offered
        );
        return Err(Status::bad_request(message));
    };
    let opened = dial.open(&[HeaderValue::from_static(RUNTIME_PROTOCOL)]).await?;
    let (response, pending) = handshake.accept(protocol)?;
    let has_close = protocol == PROTOCOLS[0];
    tokio::spawn(async move {
        match pending.socket().await {
            Ok(socket) => translate(socket, opened, streams, has_close).await,
            Err(error) => tracing::debug!(%error, "a client left before its stream was open"),
        }
    });
    Ok(response)
}

/// SPDY stream of a channel: odd numbers, opened in this order.
fn stream_of(channel: u8) -> u32 {
    match channel {
        ERROR => 1,
        STDIN => 3,
        STDOUT => 5,
        STDERR => 7,
        _ => 9,
    }
}

fn channel_of(stream: u32) -> Option<u8> {
    [STDOUT, STDERR, ERROR]
        .into_iter()
        .find(|channel| stream_of(*channel) == stream)
}

/// Channels to open for these streams, in SPDY's order, with the runtime's names for them.
fn channels(streams: Streams) -> Vec<(u8, &'static str)> {
    let wanted = [
        (true, ERROR, "error"),
        (streams.stdin, STDIN, "stdin"),
        (streams.stdout, STDOUT, "stdout"),
        (streams.stderr, STDERR, "stderr"),
        (streams.tty, RESIZE, "resize"),
    ];
    wanted
        .into_iter()
        .filter(|(open, ..)| *open)
        .map(|(_, channel, name)| (channel, name))
        .collect()
}

/// What a client's message asks for.
#[derive(Debug, PartialEq, Eq)]
enum Input<'a> {
    Data {
        channel: u8,
        data: &'a [u8],
    },
    Close {
        channel: u8,
    },
    /// Channels that are not open or not for input are ignored, as upstream does.
    Nothing,
}

fn input(message: &[u8], streams: Streams, has_close: bool) -> Input<'_> {
    let takes = |channel: u8| (channel == STDIN && streams.stdin) || (channel == RESIZE && streams.tty);
    match message {
        [CLOSE, channel] if has_close && takes(*channel) => Input::Close { channel: *channel },
        [channel, data @ ..] if takes(*channel) && !data.is_empty() => Input::Data {
            channel: *channel,
            data,
        },
        _ => Input::Nothing,
    }
}

async fn translate(socket: Socket, opened: Opened, streams: Streams, has_close: bool) {
    let (mut sink, mut stream) = socket.split();
    let Opened { upload, download, .. } = opened;
    let encoder = Arc::new(tokio::sync::Mutex::new(Encoder::default()));
    let mut output = Output {
        download,
        decoder: Decoder::default(),
        upload: upload.clone(),
        encoder,
        told: false,
    };
    let opening = tokio::time::timeout(OPEN_LIMIT, output.open(streams)).await;
    if !matches!(opening, Ok(true)) {
        output.tell_lost(&mut sink).await;
        return finish(sink, stream).await;
    }
    // An empty message on the lowest output channel says that the connection is up; clients wait for it.
    let first = if streams.stdout {
        STDOUT
    } else if streams.stderr {
        STDERR
    } else {
        ERROR
    };
    if sink.send(framed(first, b"")).await.is_err() {
        return;
    }
    let encoder = output.encoder.clone();
    let client_left = tokio::select! {
        () = output.run(&mut sink) => false,
        () = feed(&mut stream, &upload, &encoder, streams, has_close) => true,
    };
    if !client_left {
        if !output.told {
            output.tell_lost(&mut sink).await;
        }
        drop((upload, output));
        finish(sink, stream).await;
    }
    // Otherwise everything is dropped, and with it the runtime's connection.
}

/// Client to runtime, until the client has left. Ends only then: a client that closed stdin still listens.
async fn feed(
    stream: &mut SplitStream<Socket>,
    upload: &Upload,
    encoder: &tokio::sync::Mutex<Encoder>,
    streams: Streams,
    has_close: bool,
) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match &message {
            Message::Binary(bytes) => bytes.as_ref(),
            Message::Text(text) => text.as_bytes(),
            Message::Close(_) => return,
            // Pings are answered by the library.
            _ => continue,
        };
        let frame = match input(bytes, streams, has_close) {
            Input::Data { channel, data } => encoder.lock().await.data(stream_of(channel), data, false),
            Input::Close { channel } => encoder.lock().await.data(stream_of(channel), b"", true),
            Input::Nothing => continue,
        };
        if upload.send(frame).await.is_err() {
            // The runtime is done; its last output is still on the way, so the client is read on.
            while let Some(Ok(message)) = stream.next().await {
                if message.is_close() {
                    return;
                }
            }
            return;
        }
    }
}

/// Runtime to client.
struct Output {
    download: Incoming,
    decoder: Decoder,
    upload: Upload,
    encoder: Arc<tokio::sync::Mutex<Encoder>>,
    /// Something was sent on the error channel.
    told: bool,
}

impl Output {
    /// The next frame; `None` once the connection has ended. Pings are answered here.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next() {
                Ok(Some(Frame::Ping { id })) => {
                    let pong = self.encoder.lock().await.ping(id);
                    let _ = self.upload.send(pong).await; // the end of the connection shows below
                }
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => self.decoder.push(&next(&mut self.download).await?),
                Err(error) => {
                    tracing::warn!(%error, "the runtime's stream makes no sense");
                    return None;
                }
            }
        }
    }

    /// Opens all streams and waits until the runtime has taken each: what is sent earlier is lost.
    async fn open(&mut self, streams: Streams) -> bool {
        let wanted = channels(streams);
        for (channel, name) in &wanted {
            let frame = self
                .encoder
                .lock()
                .await
                .syn_stream(stream_of(*channel), &[("streamtype", name)]);
            if self.upload.send(frame).await.is_err() {
                return false;
            }
        }
        let mut missing = wanted.len();
        while missing > 0 {
            match self.frame().await {
                Some(Frame::SynReply { .. }) => missing -= 1,
                Some(Frame::Reset { .. } | Frame::GoAway { .. } | Frame::Data { .. }) | None => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// Until the runtime has closed the connection or the client is gone.
    async fn run(&mut self, sink: &mut SplitSink<Socket, Message>) {
        while let Some(frame) = self.frame().await {
            let Frame::Data { stream, data, .. } = frame else {
                continue;
            };
            let Some(channel) = channel_of(stream) else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            self.told |= channel == ERROR;
            if sink.send(framed(channel, &data)).await.is_err() {
                return;
            }
        }
    }

    /// Without this, a client would take a connection that broke for a command that succeeded.
    async fn tell_lost(&mut self, sink: &mut SplitSink<Socket, Message>) {
        let status = Status::internal("the connection to the container was lost");
        let _ = sink.send(framed(ERROR, &status.to_bytes())).await; // it may be gone too
    }
}

fn framed(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.put_u8(channel);
    message.put_slice(data);
    Message::Binary(Bytes::from(message))
}

/// Says goodbye and waits for the client to close. Closing first would reset the connection as soon as another
/// message of the client arrives, and with it the output that a slow reader has not read yet.
async fn finish(mut sink: SplitSink<Socket, Message>, mut stream: SplitStream<Socket>) {
    let goodbye = Message::Close(Some(CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    }));
    let closed = async {
        if sink.send(goodbye).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = tokio::time::timeout(FINISH_LIMIT, closed).await; // cut off then
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(message: &[u8], has_close: bool, expected: Input<'_>) {
        let streams = Streams {
            stdin: true,
            stdout: true,
            stderr: false,
            tty: true,
        };
        assert_eq!(input(message, streams, has_close), expected);
    }

    #[test]
    fn messages_of_a_client() {
        check(
            b"\x00ls",
            true,
            Input::Data {
                channel: STDIN,
                data: b"ls",
            },
        );
        check(
            b"\x04{}",
            true,
            Input::Data {
                channel: RESIZE,
                data: b"{}",
            },
        );
        check(&[255, 0], true, Input::Close { channel: STDIN });
        check(&[255, 0], false, Input::Nothing);
        check(&[255, 1], true, Input::Nothing);
        check(&[0], true, Input::Nothing);
        check(b"", true, Input::Nothing);
        check(b"\x01out", true, Input::Nothing);
    }

    #[test]
    fn streams_for_what_is_asked() {
        let names = |streams| {
            channels(streams)
                .iter()
                .map(|(_, name)| *name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            names(Streams {
                stdout: true,
                stderr: true,
                ..Streams::default()
            }),
            "error stdout stderr"
        );
        assert_eq!(
            names(Streams {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: true
            }),
            "error stdin stdout resize"
        );
    }
}
