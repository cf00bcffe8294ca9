//! Where writers of the same object wait for each other instead of deciding in vain.
//!
//! Writers are optimistic: who finds that another was faster decides again. Of many who write one object at once all but
//! one lose each time, so whoever has lost takes the object's lane and the losers go one after the other. A lane is a
//! courtesy inside one server, never what makes a write right.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Objects share lanes by the hash of their key.
const LANES: usize = 64;

pub struct Lanes {
    lanes: [Mutex<()>; LANES],
    hasher: RandomState,
}

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes {
            lanes: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl Lanes {
    /// Waits for the lane of `key`. Hold one lane at most.
    pub async fn enter(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(key);
        self.lanes[(hash % LANES as u64) as usize].lock().await
    }
}
