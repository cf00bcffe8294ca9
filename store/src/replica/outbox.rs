//! Messages on their way out, as bytes. A batch of entries makes a large message, one after the other: they share memory
//! that is used again once the last one has left. Knows how a message is encoded, not what it says.

use bytes::BytesMut;
use protobuf::{CodedOutputStream, Message as _};
use raft::eraftpb::{Message, MessageType};

use super::Output;

/// Messages of at least so many bytes share memory; small ones must not keep a large one's.
const SHARED: usize = 16 << 10;
/// Bytes of a piece of memory that messages share; larger ones have their own.
const PIECE: usize = 1 << 20;
/// Pieces that are kept: while what is in one is on its way, the next one is filled.
const PIECES: usize = 2;

#[derive(Default)]
pub(super) struct Outbox {
    pieces: Vec<BytesMut>,
}

impl Outbox {
    pub fn send(&mut self, messages: Vec<Message>, out: &mut Vec<Output>) {
        for message in messages {
            let to = message.to;
            let snapshot = (message.get_msg_type() == MessageType::MsgSnapshot)
                .then(|| message.get_snapshot().get_metadata().index);
            let message = self.encode(&message).into();
            out.push(match snapshot {
                Some(index) => Output::SendSnapshot { to, index, message },
                None => Output::Send { to, message },
            });
        }
    }

    fn encode(&mut self, message: &Message) -> BytesMut {
        let size = message.compute_size() as usize;
        let mut own = BytesMut::new();
        let memory = self.piece(size).unwrap_or(&mut own);
        memory.resize(size, 0);
        let mut stream = CodedOutputStream::bytes(memory);
        message
            .write_to_with_cached_sizes(&mut stream)
            .expect("a message in memory always encodes");
        stream.check_eof();
        memory.split()
    }

    /// Memory with room for a message that shares it, if there is a piece that nobody reads any more.
    fn piece(&mut self, size: usize) -> Option<&mut BytesMut> {
        if !(SHARED..=PIECE).contains(&size) {
            return None;
        }
        let free = self.pieces.iter_mut().position(|piece| piece.try_reclaim(size));
        if free.is_none() && self.pieces.len() < PIECES {
            self.pieces.push(BytesMut::with_capacity(PIECE));
            return self.pieces.last_mut();
        }
        free.map(|free| &mut self.pieces[free])
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;

    fn message(bytes: usize, fill: u8) -> Message {
        let entry = Entry {
            data: vec![fill; bytes].into(),
            ..Entry::default()
        };
        Message {
            to: 2,
            entries: vec![entry].into(),
            ..Message::default()
        }
    }

    /// Sends messages of such sizes; where those are that may share memory, and what went out.
    fn sent(outbox: &mut Outbox, sizes: &[usize], fill: u8) -> (Vec<usize>, Vec<Output>) {
        let sent: Vec<_> = sizes.iter().map(|size| message(*size, fill)).collect();
        let mut out = Vec::new();
        outbox.send(sent.clone(), &mut out);
        assert_eq!(out.len(), sent.len());
        let mut places = Vec::new();
        for (output, sent) in out.iter().zip(&sent) {
            let Output::Send { to: 2, message } = output else {
                panic!("a message for 2")
            };
            assert_eq!(&Message::parse_from_bytes(message).expect("whole"), sent);
            if (SHARED..=PIECE).contains(&message.len()) {
                places.push(message.as_ptr() as usize);
            }
        }
        (places, out)
    }

    #[test]
    fn messages_say_what_they_said_and_large_ones_share_memory() {
        let mut outbox = Outbox::default();
        let mut places = std::collections::BTreeSet::new();
        for round in 0..200 {
            places.extend(sent(&mut outbox, &[100_000, 10, 50_000, 2 * PIECE], round).0);
        }
        assert!(places.len() < 50, "{} places for 400 messages", places.len());
        assert!(outbox.pieces.len() <= PIECES);
    }

    #[test]
    fn what_is_on_its_way_stays_and_no_more_is_kept() {
        let mut outbox = Outbox::default();
        let on_their_way: Vec<_> = (0..40).map(|n| sent(&mut outbox, &[100_000], n).1).collect();
        for (n, out) in on_their_way.iter().enumerate() {
            let Output::Send { message: bytes, .. } = &out[0] else {
                panic!("a message")
            };
            let read = Message::parse_from_bytes(bytes).expect("whole");
            assert_eq!(read, message(100_000, n as u8), "nothing was written over");
        }
        assert_eq!(outbox.pieces.len(), PIECES);
    }
}
