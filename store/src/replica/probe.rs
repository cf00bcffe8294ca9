//! Where a peer's log ends is asked with one entry at a time. With each answer to a heartbeat `raft` asks again, and sends
//! along as much as fits into a message. Every round of linearizable reads is a heartbeat, so a leader sent the same
//! megabyte to a member that came back hundreds of times, had no time for anything else, and was given up by the others.

use raft::RawNode;
use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, Result};

use super::cache::Cache;

/// Takes a peer's message; what it makes this member ask carries as little as possible.
///
/// # Errors
/// Raft refuses the message.
pub(super) fn step(node: &mut RawNode<Cache>, message: Message) -> Result<()> {
    let whole = node.raft.max_msg_size;
    if is_answered_by_a_probe(node, &message) {
        // One entry always fits.
        node.raft.max_msg_size = 0;
    }
    let stepped = node.step(message);
    node.raft.max_msg_size = whole;
    stepped
}

fn is_answered_by_a_probe(node: &RawNode<Cache>, message: &Message) -> bool {
    match message.get_msg_type() {
        MessageType::MsgHeartbeatResponse => {
            let progress = node.raft.prs().get(message.from);
            progress.is_some_and(|progress| progress.state == ProgressState::Probe)
        }
        MessageType::MsgAppendResponse => message.reject,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use raft::eraftpb::{ConfState, Entry, HardState};

    use super::*;
    use crate::log::{Base, Identity, LogState};
    use crate::replica::{MAX_MESSAGE_BYTES, Start, logger, raft_config};

    const LAST: u64 = 500;

    /// Of three members, with a log that the others lack.
    fn leader() -> RawNode<Cache> {
        let base = Base {
            index: 10,
            term: 1,
            conf_state: ConfState {
                voters: vec![1, 2, 3],
                ..ConfState::default()
            },
        };
        let entry = |index| Entry {
            index,
            term: 1,
            data: vec![0; 100].into(),
            ..Entry::default()
        };
        let log = LogState {
            identity: Identity {
                cluster: 1,
                member: 1,
            },
            base: base.clone(),
            hard_state: HardState {
                term: 1,
                ..HardState::default()
            },
            last_index: LAST,
            lost: None,
        };
        let cache = Cache::new(&Start {
            log,
            applied: base,
            entries: (11..=LAST).map(entry).collect(),
            boot: 1,
            seed: 1,
        });
        let mut node = RawNode::new(&raft_config(1, 10), cache, &logger::logger()).expect("a log");
        node.raft.become_candidate();
        node.raft.become_leader();
        node.raft.msgs.clear();
        node
    }

    /// Entries that this answer of member 3 makes the leader send.
    fn sent(node: &mut RawNode<Cache>, kind: MessageType, index: u64, reject: bool) -> usize {
        let message = Message {
            msg_type: kind,
            from: 3,
            to: 1,
            term: node.raft.term,
            index,
            reject,
            reject_hint: 20,
            log_term: 1,
            ..Message::default()
        };
        step(node, message).expect("a leader takes answers");
        let sent = std::mem::take(&mut node.raft.msgs);
        sent.iter().map(|message| message.entries.len()).sum()
    }

    #[test]
    fn a_peer_is_probed_with_one_entry_and_then_sent_everything() {
        let mut node = leader();
        let probed = sent(&mut node, MessageType::MsgAppendResponse, LAST, true);
        assert_eq!(probed, 1);
        for _ in 0..10 {
            let again = sent(&mut node, MessageType::MsgHeartbeatResponse, 0, false);
            assert_eq!(again, 1);
        }
        assert_eq!(node.raft.max_msg_size, MAX_MESSAGE_BYTES);
        let rest = sent(&mut node, MessageType::MsgAppendResponse, 21, false);
        assert_eq!(rest as u64, LAST + 1 - 21);
    }
}
