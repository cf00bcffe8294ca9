//! What a leader does with writes that other members send it while it has no room: they go into the log as a few bytes
//! that say why they were refused, so that whoever sent one gets its answer, once, like any other. Plain functions.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{EntryType, Message, MessageType};

use crate::command::{self, Command};
use crate::error::StoreError;
use crate::model::Txn;

/// Why a leader has no room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Disk { free: u64, reserve: u64 },
    Log { behind: u64 },
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Disk { free, reserve } => StoreError::DiskFull { free, reserve },
            Refusal::Log { behind } => StoreError::LogFull { bytes: behind },
        }
    }
}

/// A peer's message with every transaction in it refused that `takes` does not take; `None` when nothing of it changes.
pub(super) fn refuse(message: &[u8], refusal: Refusal, takes: impl Fn(&Txn) -> bool) -> Option<Bytes> {
    let mut message = Message::parse_from_bytes(message).ok()?;
    if message.get_msg_type() != MessageType::MsgPropose {
        return None;
    }
    let mut changed = false;
    for entry in message.mut_entries().iter_mut() {
        if entry.get_entry_type() != EntryType::EntryNormal {
            continue;
        }
        // What does not decode is no write.
        if let Ok(Command::Txn(txn)) = command::decode(&entry.data)
            && !takes(&txn)
        {
            entry.data = command::encode_refused(refusal).into();
            changed = true;
        }
    }
    let encoded = || {
        message
            .write_to_bytes()
            .expect("a message in memory always encodes")
    };
    changed.then(|| encoded().into())
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::Entry;

    use super::*;
    use crate::model::{Op, Revision};

    fn entry(data: Vec<u8>) -> Entry {
        Entry {
            data: data.into(),
            context: Bytes::from_static(b"whose"),
            ..Entry::default()
        }
    }

    #[test]
    fn a_refused_write_keeps_its_sender_and_loses_its_bytes() {
        let put = Op::Put {
            key: "/k".into(),
            value: vec![1; 900].into(),
        };
        let delete = Op::Delete { key: "/k".into() };
        let txn = |op: &Op| command::encode_txn(&Txn::new(vec![], vec![op.clone()]));
        let mut message = Message {
            entries: vec![
                entry(txn(&put)),
                entry(txn(&delete)),
                entry(command::encode_compact(Revision(3))),
            ]
            .into(),
            ..Message::default()
        };
        let refusal = Refusal::Disk { free: 5, reserve: 9 };
        let takes = |txn: &Txn| matches!(txn.ops[..], [Op::Delete { .. }]);
        let bytes = |message: &Message| message.write_to_bytes().expect("encodes");
        assert_eq!(refuse(&bytes(&message), refusal, takes), None, "no proposal");
        message.set_msg_type(MessageType::MsgPropose);
        assert_eq!(refuse(&bytes(&message), refusal, |_| true), None);
        let refused = refuse(&bytes(&message), refusal, takes).expect("one write is refused");
        assert!(refused.len() < 300);
        let refused = Message::parse_from_bytes(&refused).expect("a message");
        let found: Vec<Command> = refused
            .entries
            .iter()
            .map(|entry| {
                assert_eq!(&entry.context[..], b"whose");
                command::decode(&entry.data).expect("whole")
            })
            .collect();
        assert_eq!(found[0], Command::Refused(refusal));
        assert!(matches!(found[1], Command::Txn(_)));
        assert_eq!(found[2], Command::Compact(Revision(3)));
    }
}
