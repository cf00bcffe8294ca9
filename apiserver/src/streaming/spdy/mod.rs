//! SPDY/3.1 as Kubernetes' streaming uses it, without IO: bytes in, frames out, and the other way round.
//!
//! Knows frames. Must not know what streams mean. Flow control is read over: no peer in Kubernetes' world does
//! it (it is done by not reading), and neither do we.

mod dictionary;
mod headers;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

pub use self::headers::Headers;
use self::headers::{Compressor, Decompressor};

/// Largest frame that is read, in bytes. Peers write what they read from a pipe: a few tens of kilobytes.
pub const FRAME_LIMIT: usize = 1 << 20;
const HEADER: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;

mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const SETTINGS: u16 = 4;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
    pub const WINDOW_UPDATE: u16 = 9;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("SPDY frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("SPDY frame is malformed")]
    Malformed,
    #[error("SPDY version {0} is not spoken")]
    Version(u16),
    #[error("SPDY headers: {0}")]
    Headers(&'static str),
}

/// A frame, as far as its content matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Headers {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        data: Bytes,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        status: u32,
    },
    /// Settings, window updates, and what later versions may bring.
    Other,
}

/// Turns bytes into frames; they may be cut anywhere.
pub struct Decoder {
    buffer: BytesMut,
    decompressor: Decompressor,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            buffer: BytesMut::new(),
            decompressor: Decompressor::new(),
        }
    }
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until there are more bytes.
    ///
    /// # Errors
    /// After one, the connection is of no use any more.
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, flags, l1, l2, l3] = *header;
        let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        if length > FRAME_LIMIT {
            return Err(Error::TooLarge(length));
        }
        if self.buffer.len() < HEADER + length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(length).freeze();
        let word = u32::from_be_bytes([a, b, c, d]);
        let fin = flags & FIN != 0;
        if word & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data {
                stream: word,
                data: payload,
                fin,
            }));
        }
        let version = (word >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        self.control(word as u16, payload, fin).map(Some)
    }

    fn control(&mut self, kind: u16, mut payload: Bytes, fin: bool) -> Result<Frame, Error> {
        let needed = match kind {
            kind::SYN_STREAM => 10,
            kind::RST_STREAM | kind::GOAWAY => 8,
            kind::SYN_REPLY | kind::HEADERS | kind::PING => 4,
            _ => 0,
        };
        if payload.len() < needed {
            return Err(Error::Malformed);
        }
        Ok(match kind {
            kind::SYN_STREAM => {
                let stream = payload.get_u32() & 0x7fff_ffff;
                payload.advance(6); // the associated stream, priority and slot
                Frame::SynStream {
                    stream,
                    headers: self.decompressor.decompress(&payload)?,
                    fin,
                }
            }
            kind::SYN_REPLY => {
                let stream = payload.get_u32() & 0x7fff_ffff;
                Frame::SynReply {
                    stream,
                    headers: self.decompressor.decompress(&payload)?,
                    fin,
                }
            }
            kind::HEADERS => {
                let stream = payload.get_u32() & 0x7fff_ffff;
                Frame::Headers {
                    stream,
                    headers: self.decompressor.decompress(&payload)?,
                    fin,
                }
            }
            kind::RST_STREAM => Frame::Reset {
                stream: payload.get_u32() & 0x7fff_ffff,
                status: payload.get_u32(),
            },
            kind::PING => Frame::Ping {
                id: payload.get_u32(),
            },
            kind::GOAWAY => {
                payload.advance(4); // the last good stream
                Frame::GoAway {
                    status: payload.get_u32(),
                }
            }
            kind::SETTINGS | kind::WINDOW_UPDATE => Frame::Other,
            _ => Frame::Other,
        })
    }
}

/// Turns frames into bytes. One per direction: header blocks build on each other.
pub struct Encoder {
    compressor: Compressor,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder {
            compressor: Compressor::new(),
        }
    }
}

impl Encoder {
    /// Opens a stream. Clients use odd numbers, in growing order.
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let block = self.compressor.compress(headers);
        let mut out = control(kind::SYN_STREAM, 0, 10 + block.len());
        out.put_u32(stream);
        out.put_u32(0); // no associated stream
        out.put_u16(0); // highest priority, no slot
        out.extend_from_slice(&block);
        out.freeze()
    }

    #[cfg(test)] // we never are the side that is asked
    pub fn syn_reply(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let block = self.compressor.compress(headers);
        let mut out = control(kind::SYN_REPLY, 0, 4 + block.len());
        out.put_u32(stream);
        out.extend_from_slice(&block);
        out.freeze()
    }

    /// `fin` closes our side of the stream.
    pub fn data(&self, stream: u32, data: &[u8], fin: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER + data.len());
        out.put_u32(stream);
        out.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | data.len() as u32);
        out.extend_from_slice(data);
        out.freeze()
    }

    /// Also the answer to the other side's ping, which is the same frame.
    pub fn ping(&self, id: u32) -> Bytes {
        let mut out = control(kind::PING, 0, 4);
        out.put_u32(id);
        out.freeze()
    }
}

fn control(kind: u16, flags: u8, length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER + length);
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of every size and compares the frames.
    #[track_caller]
    fn check(bytes: &[u8], expected: &[Frame]) {
        for size in [1, 3, 7, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut frames = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, expected, "in pieces of {size}");
        }
    }

    #[track_caller]
    fn fails(bytes: &[u8], expected: Error) {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        assert_eq!(decoder.next(), Err(expected));
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let mut encoder = Encoder::default();
        let mut bytes = Vec::new();
        bytes.extend(encoder.syn_stream(1, &[("streamtype", "error")]));
        bytes.extend(encoder.syn_stream(3, &[("streamtype", "stdin")]));
        bytes.extend(encoder.syn_reply(1, &[]));
        bytes.extend(encoder.data(3, b"hello", false));
        bytes.extend(encoder.data(3, b"", true));
        bytes.extend(encoder.ping(2));
        let headers = |value: &str| vec![("streamtype".to_string(), value.to_string())];
        let expected = [
            Frame::SynStream {
                stream: 1,
                headers: headers("error"),
                fin: false,
            },
            Frame::SynStream {
                stream: 3,
                headers: headers("stdin"),
                fin: false,
            },
            Frame::SynReply {
                stream: 1,
                headers: vec![],
                fin: false,
            },
            Frame::Data {
                stream: 3,
                data: Bytes::from_static(b"hello"),
                fin: false,
            },
            Frame::Data {
                stream: 3,
                data: Bytes::new(),
                fin: true,
            },
            Frame::Ping { id: 2 },
        ];
        check(&bytes, &expected);
    }

    #[test]
    fn published_layouts() {
        check(
            &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1],
            &[Frame::Reset { stream: 5, status: 1 }],
        );
        check(
            &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 0],
            &[Frame::GoAway { status: 0 }],
        );
        check(
            &[0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 9],
            &[Frame::Other],
        );
        check(
            &[0, 0, 0, 7, 1, 0, 0, 1, b'x'],
            &[Frame::Data {
                stream: 7,
                data: Bytes::from_static(b"x"),
                fin: true,
            }],
        );
    }

    #[test]
    fn bad_frames_are_errors() {
        fails(&[0x80, 2, 0, 1, 0, 0, 0, 0], Error::Version(2));
        fails(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0], Error::Malformed);
        fails(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], Error::TooLarge(0xff_ffff));
    }
}
