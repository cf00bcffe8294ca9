//! Encoded events, shared by all watchers that want the same form.
//!
//! Knows events and bytes. Must not know what a form looks like.
//!
//! An event stays in the history for an hour; its encoded forms are needed while watchers catch up, so only the newest
//! are kept, within one bound for the whole server. Who comes later makes them again.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use corten_store::Event;
use parking_lot::Mutex;

use crate::stored::Damaged;

/// Bytes of encoded events kept for watchers that are behind.
const KEEP_BYTES: usize = 16 << 20;

/// The encoded events of one server.
#[derive(Default)]
pub struct Encodings(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Oldest first, with the bytes of the form that was added.
    events: VecDeque<(Arc<Event>, usize)>,
    bytes: usize,
}

impl Encodings {
    /// The event in `form`, made by `make` if nobody did before.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or_make(
        &self,
        event: &Arc<Event>,
        form: u64,
        make: impl FnOnce() -> Result<Vec<u8>, Damaged>,
    ) -> Result<Bytes, Damaged> {
        if let Some(bytes) = event.encoded.get(form) {
            return Ok(bytes);
        }
        let bytes = Bytes::from(make()?);
        if event.encoded.insert(form, bytes.clone()) {
            self.0.lock().add(event.clone(), bytes.len());
        }
        Ok(bytes)
    }
}

impl Kept {
    fn add(&mut self, event: Arc<Event>, bytes: usize) {
        self.events.push_back((event, bytes));
        self.bytes += bytes;
        while self.bytes > KEEP_BYTES
            && let Some((oldest, bytes)) = self.events.pop_front()
        {
            oldest.encoded.clear();
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_store::{Encoded, Entry, EventKind, Memo, Revision};

    fn event(revision: u64) -> Arc<Event> {
        let key = Bytes::from_static(b"/core/pods/a/b");
        let prev = Arc::new(Entry {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            memo: Memo::default(),
        });
        Arc::new(Event {
            revision: Revision(revision),
            key,
            kind: EventKind::Delete { prev },
            encoded: Encoded::default(),
        })
    }

    #[test]
    fn a_form_is_made_once_and_the_oldest_go_first() {
        let encodings = Encodings::default();
        let events: Vec<_> = (0..20).map(event).collect();
        let big = KEEP_BYTES / 10;
        let mut made = 0;
        for event in &events {
            for _ in 0..3 {
                let bytes = encodings.get_or_make(event, 1, || {
                    made += 1;
                    Ok(vec![0; big])
                });
                assert_eq!(bytes.expect("made").len(), big);
            }
        }
        assert_eq!(made, events.len());
        let kept: Vec<bool> = events
            .iter()
            .map(|event| event.encoded.get(1).is_some())
            .collect();
        assert_eq!(kept, [[false; 10], [true; 10]].concat());
        assert!(encodings.0.lock().bytes <= KEEP_BYTES);
    }
}
