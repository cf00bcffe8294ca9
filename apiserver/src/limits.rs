//! What one client may take from others: connections, answers it does not read, requests it gives up.
//!
//! Knows connections and bytes. Must not know requests' meaning. Time comes in as milliseconds on any steady scale.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Connections of one address (of one /64 for IPv6). A quarter of all: four addresses are needed to take every place, and a
/// node's agent with everything behind it has far fewer.
pub const MAX_CONNECTIONS_OF_ONE: u32 = 4096;
/// A client that takes nothing of an answer for this long is cut off. As a chunk of an answer has 64 KiB, this is also the
/// least speed: 2 KiB a second.
pub const SLOWEST_READ: Duration = Duration::from_secs(30);
/// How often a connection with open answers is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Requests of one connection that its client gave up at once; beyond it only [`GIVEN_UP_A_SECOND`]. Above what a client
/// that ends all its watches needs.
const GIVEN_UP_AT_ONCE: f64 = 512.0;
const GIVEN_UP_A_SECOND: f64 = 32.0;

/// Connections by address.
#[derive(Default)]
pub struct Places(Mutex<HashMap<IpAddr, u32>>);

/// One place, until it is dropped.
pub struct Place {
    of: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// `None`: this address has all it may have.
    pub fn take(self: &Arc<Places>, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut taken = self.0.lock();
        let count = taken.entry(address).or_default();
        if *count >= MAX_CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Place {
            of: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.of.0.lock().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whoever has one IPv6 address has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        v4 => v4,
    }
}

/// Milliseconds since the process looked first; never 0.
#[must_use]
pub fn steady_millis() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(Instant::now);
    1 + u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
}

/// Whether the last chunk of one answer was taken: since when it waits, or 0.
#[derive(Clone, Default)]
pub struct Reading(Arc<AtomicU64>);

impl Reading {
    /// A chunk is on its way.
    pub fn offered(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }

    /// The client has room for the next one.
    pub fn taken(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The open answers of one connection.
#[derive(Default)]
pub struct Readers {
    open: Mutex<Vec<Reading>>,
    opened: Notify,
}

impl Readers {
    pub fn open(&self) -> Reading {
        let reading = Reading::default();
        self.open.lock().push(reading.clone());
        self.opened.notify_one();
        reading
    }

    /// Waits until there is another one.
    pub async fn opened(&self) {
        self.opened.notified().await;
    }

    #[must_use]
    pub fn any(&self) -> bool {
        !self.open.lock().is_empty()
    }

    /// Whether an answer waits longer than [`SLOWEST_READ`]. Forgets answers that have ended.
    pub fn stalled(&self, now: u64) -> bool {
        let mut open = self.open.lock();
        open.retain(|reading| Arc::strong_count(&reading.0) > 1);
        let longest = SLOWEST_READ.as_millis() as u64;
        open.iter().any(|reading| {
            let since = reading.0.load(Ordering::Relaxed);
            since != 0 && now.saturating_sub(since) > longest
        })
    }
}

/// Requests that the client of one connection gave up before they were answered. A server works on them all the same:
/// HTTP/2 lets a client ask and give up as fast as it can send (CVE-2023-44487).
pub struct GivenUp(Mutex<(f64, u64)>);

impl GivenUp {
    #[must_use]
    pub fn new(now: u64) -> GivenUp {
        GivenUp(Mutex::new((GIVEN_UP_AT_ONCE, now)))
    }

    /// Counts one; `false`: that was too many.
    pub fn count(&self, now: u64) -> bool {
        let mut left = self.0.lock();
        let earned = now.saturating_sub(left.1) as f64 / 1000.0 * GIVEN_UP_A_SECOND;
        *left = ((left.0 + earned).min(GIVEN_UP_AT_ONCE), now);
        if left.0 < 1.0 {
            return false;
        }
        left.0 -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_places_and_gives_them_back() {
        let places = Arc::new(Places::default());
        let of = |text: &str| places.take(text.parse().expect("an address"));
        let mut held: Vec<Place> = (0..MAX_CONNECTIONS_OF_ONE)
            .filter_map(|_| of("2001:db8::1"))
            .collect();
        assert_eq!(held.len() as u32, MAX_CONNECTIONS_OF_ONE);
        assert!(of("2001:db8::ffff:2").is_none(), "the same network");
        assert!(of("2001:db8:0:1::1").is_some() && of("192.0.2.1").is_some());
        held.pop();
        assert!(of("2001:db8::3").is_some());
        drop(held);
        assert!(places.0.lock().is_empty());
    }

    #[test]
    fn an_answer_that_is_not_taken_stalls_its_connection() {
        let (readers, limit) = (Readers::default(), SLOWEST_READ.as_millis() as u64);
        let (slow, idle) = (readers.open(), readers.open());
        slow.offered(1000);
        idle.offered(1000);
        idle.taken();
        assert!(!readers.stalled(1000 + limit));
        assert!(readers.stalled(1001 + limit));
        slow.taken();
        assert!(!readers.stalled(u64::MAX));
        slow.offered(1000);
        drop(slow);
        assert!(!readers.stalled(u64::MAX), "it has ended");
    }

    #[test]
    fn giving_up_has_a_budget_that_comes_back() {
        let given_up = GivenUp::new(0);
        let spent = (0..2000).filter(|_| given_up.count(0)).count();
        assert_eq!(spent as f64, GIVEN_UP_AT_ONCE);
        assert!(!given_up.count(10) && given_up.count(1000));
        assert_eq!(
            (0..2000).filter(|_| given_up.count(1_000_000)).count() as f64,
            GIVEN_UP_AT_ONCE
        );
    }
}
