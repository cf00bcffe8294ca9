//! Messages on their way out, as bytes. A batch of entries makes a large message, one after the other: they share memory
//! that is used again once the last one has left. Knows how a message is encoded, not what it says.

use bytes::BytesMut;
use protobuf::{CodedOutputStream, Message as _};
use raft::eraftpb::{Message, MessageType};

use super::Output;

/// Messages of at least so many bytes share memory; small ones must not keep a large one's.
const SHARED: usize = 16 << 10;
/// Bytes of memory that are kept for the next message.
const KEPT: usize = 2 << 20;

#[derive(Default)]
pub(super) struct Outbox {
    memory: BytesMut,
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
        let memory = if size < SHARED { &mut own } else { &mut self.memory };
        memory.resize(size, 0);
        let mut stream = CodedOutputStream::bytes(memory);
        message
            .write_to_with_cached_sizes(&mut stream)
            .expect("a message in memory always encodes");
        stream.check_eof();
        let encoded = memory.split();
        if self.memory.capacity() > KEPT {
            self.memory = BytesMut::new();
        }
        encoded
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

    #[test]
    fn messages_say_what_they_said_and_large_ones_share_memory() {
        let mut outbox = Outbox::default();
        let mut places = std::collections::BTreeSet::new();
        for round in 0..20 {
            let sent = [
                message(100_000, round),
                message(10, round),
                message(50_000, round),
            ];
            let mut out = Vec::new();
            outbox.send(sent.to_vec(), &mut out);
            assert_eq!(out.len(), sent.len());
            for (output, sent) in out.iter().zip(&sent) {
                let Output::Send { to: 2, message } = output else {
                    panic!("a message for 2")
                };
                assert_eq!(&Message::parse_from_bytes(message).expect("whole"), sent);
                if message.len() > SHARED {
                    places.insert(message.as_ptr());
                }
            }
        }
        assert!(places.len() <= 6, "{} places for 40 messages", places.len());
        outbox.send(vec![message(2 * KEPT, 1)], &mut Vec::new());
        assert!(outbox.memory.capacity() <= KEPT);
    }
}
