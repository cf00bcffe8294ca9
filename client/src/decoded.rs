//! Objects decoded once for two components of a process that follow the same kind: each event reaches both, and what one
//! has decoded the other takes.
//!
//! Knows texts and what becomes of them. Must not know who reads which.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::Decoding;
use crate::decode::{self, Omit};
use crate::object::Object;

/// Objects that only one of the two has taken: how far one may be behind the other. Each is some KiB.
const WAITING: usize = 256;
/// Bytes at the beginning of a text by which it is found; its revision is among them. All of it is compared then.
const HEAD: usize = 160;

/// What two components decode.
pub struct Decoded<K> {
    /// What neither of them reads.
    omit: &'static Omit,
    hasher: RandomState,
    waiting: Mutex<Waiting<K>>,
}

struct Waiting<K> {
    objects: HashMap<u64, (Box<str>, Arc<K>)>,
    /// Their keys, the oldest first; some may have been taken.
    order: VecDeque<u64>,
}

impl<K: Object> Decoded<K> {
    pub fn new(omit: &'static Omit) -> Self {
        Decoded {
            omit,
            hasher: RandomState::new(),
            waiting: Mutex::new(Waiting {
                objects: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }

    /// The object of `text`: kept for the other one by whom it is asked for first.
    ///
    /// # Errors
    /// A text that is no such object.
    pub fn object(&self, text: &str) -> Result<Arc<K>, serde_json::Error> {
        let head = &text.as_bytes()[..text.len().min(HEAD)];
        let key = self.hasher.hash_one((text.len(), head));
        if let Some(object) = self.waiting.lock().take(key, text) {
            return Ok(object);
        }
        let object: Arc<K> = Arc::new(decode::object(text, self.omit)?);
        self.waiting.lock().put(key, text, object.clone());
        Ok(object)
    }

    /// The same for a cache, whose objects are its own: copied if the other one still has them.
    pub fn decoding(self: Arc<Self>) -> Decoding<K>
    where
        K: Clone,
    {
        Box::new(move |text| self.object(text).map(Arc::unwrap_or_clone))
    }
}

impl<K> Waiting<K> {
    fn take(&mut self, key: u64, text: &str) -> Option<Arc<K>> {
        if *self.objects.get(&key)?.0 != *text {
            return None;
        }
        self.objects.remove(&key).map(|(_, object)| object)
    }

    fn put(&mut self, key: u64, text: &str, object: Arc<K>) {
        if self.objects.insert(key, (text.into(), object)).is_none() {
            self.order.push_back(key);
        }
        // What was taken goes with the old ones: then the one that waits is found behind.
        while self.order.len() > WAITING
            && let Some(oldest) = self.order.pop_front()
        {
            self.objects.remove(&oldest);
        }
    }
}

impl<K> std::fmt::Debug for Decoded<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectExt;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn text(name: usize) -> String {
        format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"{name}"}},"data":{{"k":"v"}}}}"#)
    }

    #[test]
    fn the_second_has_what_the_first_decoded() {
        let decoded = Decoded::<ConfigMap>::new(&decode::MANAGED);
        let first = decoded.object(&text(1)).expect("an object");
        let second = decoded.object(&text(1)).expect("an object");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.name(), "1");
        // Both have had it: it is no longer kept.
        drop(second);
        assert_eq!(Arc::strong_count(&first), 1);
        // Nothing but the same text is the same object, however it begins.
        let long = |end: &str| {
            format!(
                r#"{{"metadata":{{"name":"{}"}},"data":{{"k":"{end}"}}}}"#,
                "x".repeat(HEAD)
            )
        };
        let one = decoded.object(&long("a")).expect("an object");
        let other = decoded.object(&long("b")).expect("an object");
        assert_ne!(one.data, other.data);
        assert!(decoded.object("no object").is_err());
    }

    #[test]
    fn who_is_far_behind_decodes_again() {
        let decoded = Decoded::<ConfigMap>::new(&decode::MANAGED);
        let all: Vec<_> = (0..=WAITING)
            .map(|n| decoded.object(&text(n)).expect("an object"))
            .collect();
        let last = decoded.object(&text(WAITING)).expect("an object");
        assert!(Arc::ptr_eq(&last, &all[WAITING]));
        let first = decoded.object(&text(0)).expect("an object");
        assert!(!Arc::ptr_eq(&first, &all[0]));
        let waiting = decoded.waiting.lock();
        assert!(waiting.order.len() <= WAITING && waiting.objects.len() <= WAITING);
    }
}
