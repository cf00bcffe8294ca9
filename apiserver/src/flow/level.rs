//! One priority level at work: who gets a seat at once, who waits, who is refused.
//!
//! Knows time and tasks; whose turn it is, `queues` says. While nobody waits a request takes its seats by one change of one
//! word and gives them back by another: the lock is only for those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::queues::{Queues, Shape, Ticket};
use super::shares::Shares;

/// Longest wait for a seat: a quarter of a request's time. Source: Kubernetes `flowcontrol.New`.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// One request that waits, in the word that also counts seats.
const ONE_WAITING: u64 = 1 << 32;

/// What an object says of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// `None`: exempt.
    pub limited: Option<Limited>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub shares: Shares,
    /// `None`: what finds no seat is refused.
    pub shape: Option<Shape>,
}

/// Why a request got no seat. Source: Kubernetes `metrics.AddReject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

pub struct Level {
    pub name: String,
    pub uid: Option<HeaderValue>,
    pub spec: Spec,
    state: Arc<State>,
}

/// What outlives a change of the object.
struct State {
    exempt: bool,
    /// Requests that wait, above; seats in use, below.
    word: AtomicU64,
    limit: AtomicU32,
    /// Most seats that were wanted at once since the last look.
    peak: AtomicU32,
    queues: Mutex<Inner>,
}

struct Inner {
    queues: Queues<oneshot::Sender<()>>,
    /// New requests may wait.
    open: bool,
}

fn seats_of(word: u64) -> u32 {
    word as u32
}

fn waiting_of(word: u64) -> u64 {
    word >> 32
}

impl Level {
    /// A level of this name, which goes on with what `before` has running and waiting.
    #[must_use]
    pub fn new(name: String, uid: Option<HeaderValue>, spec: Spec, before: Option<&Level>) -> Level {
        let shape = spec.limited.and_then(|limited| limited.shape);
        let none = Shape {
            queues: 0,
            hand: 0,
            length: 0,
        };
        let exempt = spec.limited.is_none();
        let state = match before.filter(|before| before.state.exempt == exempt) {
            Some(before) => before.state.clone(),
            None => Arc::new(State {
                exempt,
                word: AtomicU64::new(0),
                limit: AtomicU32::new(1),
                peak: AtomicU32::new(0),
                queues: Mutex::new(Inner {
                    queues: Queues::new(none),
                    open: false,
                }),
            }),
        };
        {
            let mut inner = state.queues.lock();
            inner.queues.reshape(shape.unwrap_or(none));
            inner.open = shape.is_some();
        }
        Level {
            name,
            uid,
            spec,
            state,
        }
    }

    #[must_use]
    pub fn limit(&self) -> u32 {
        self.state.limit.load(Ordering::Relaxed)
    }

    /// Seats in use, and requests that wait.
    #[must_use]
    pub fn load(&self) -> (u32, u64) {
        let word = self.state.word.load(Ordering::Relaxed);
        (seats_of(word), waiting_of(word))
    }

    /// Changes how many seats there are; who waits for one of the new ones gets it.
    pub fn set_limit(&self, seats: u32) {
        let before = self.state.limit.swap(seats.max(1), Ordering::AcqRel);
        if seats > before && self.load().1 > 0 {
            self.state.start(&mut self.state.queues.lock());
        }
    }

    /// Most seats that were wanted at once since this was last asked.
    #[must_use]
    pub fn take_peak(&self) -> u32 {
        let (seats, waiting) = self.load();
        let now = seats.saturating_add(u32::try_from(waiting).unwrap_or(u32::MAX));
        self.state.peak.swap(seats, Ordering::Relaxed).max(now)
    }

    /// Takes seats if there are some and nobody waits for them.
    #[must_use]
    pub fn enter(&self, seats: u32) -> Option<Seats> {
        if !self.state.exempt && !self.state.take(seats, false) {
            return None;
        }
        if self.state.exempt {
            self.state.word.fetch_add(u64::from(seats), Ordering::Relaxed);
        }
        Some(Seats {
            state: self.state.clone(),
            seats,
            queue: None,
        })
    }

    /// Waits for seats, at most for `longest`. `hash`: of the request's flow.
    ///
    /// # Errors
    /// There is no room to wait, or none became free in time.
    pub async fn wait(&self, hash: u64, seats: u32, longest: Duration) -> Result<Seats, Refused> {
        let (told, turn) = oneshot::channel();
        let ticket = {
            let mut inner = self.state.queues.lock();
            if !inner.open {
                drop(inner);
                return self.enter(seats).ok_or(Refused::ConcurrencyLimit);
            }
            let joined = inner.queues.join(hash, seats, told);
            let ticket = joined.map_err(|_| Refused::QueueFull)?;
            let word = self.state.word.fetch_add(ONE_WAITING, Ordering::AcqRel);
            let wanted = seats_of(word).saturating_add(u32::try_from(waiting_of(word)).unwrap_or(0) + 1);
            self.state.peak.fetch_max(wanted, Ordering::Relaxed);
            self.state.start(&mut inner);
            ticket
        };
        let mut waiting = Waiting {
            state: &self.state,
            ticket,
            seats,
            turn: Some(turn),
        };
        let turn = waiting.turn.as_mut().expect("it was just put there");
        if tokio::time::timeout(longest, turn).await.is_err() && waiting.leave() {
            return Err(Refused::TimeOut);
        }
        waiting.turn = None; // it has its seats
        Ok(Seats {
            state: self.state.clone(),
            seats,
            queue: Some((ticket, Instant::now())),
        })
    }
}

impl State {
    /// Takes seats within the limit. A request that wants more than there are gets them when it is alone.
    fn take(&self, seats: u32, before_waiting: bool) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        let taken = self
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                let used = seats_of(word);
                let fits = used == 0 || used.saturating_add(seats) <= limit;
                (fits && (before_waiting || waiting_of(word) == 0)).then(|| word + u64::from(seats))
            });
        let Ok(before) = taken else { return false };
        let now = seats_of(before).saturating_add(seats);
        if self.peak.load(Ordering::Relaxed) < now {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
        true
    }

    /// Starts those whose turn it is, as long as there are seats.
    fn start(&self, inner: &mut Inner) {
        while let Some(seats) = inner.queues.next_seats() {
            if !self.take(seats, true) {
                return;
            }
            let Some(started) = inner.queues.start() else {
                return;
            };
            self.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
            if started.request.send(()).is_err() {
                inner.queues.end(started.queue, started.seats, Duration::ZERO);
                self.word.fetch_sub(u64::from(started.seats), Ordering::AcqRel);
            }
        }
    }

    fn give_back(&self, seats: u32, ended: Option<(Ticket, Duration)>) {
        let before = self.word.fetch_sub(u64::from(seats), Ordering::AcqRel);
        if waiting_of(before) == 0 && ended.is_none() {
            return;
        }
        let mut inner = self.queues.lock();
        if let Some((ticket, took)) = ended {
            inner.queues.end(ticket.queue(), seats, took);
        }
        self.start(&mut inner);
    }
}

/// Seats of one request, until it is dropped.
pub struct Seats {
    state: Arc<State>,
    seats: u32,
    /// Where it waited, and since when it runs.
    queue: Option<(Ticket, Instant)>,
}

impl Drop for Seats {
    fn drop(&mut self) {
        let ended = self.queue.map(|(ticket, since)| (ticket, since.elapsed()));
        if self.state.exempt {
            self.state
                .word
                .fetch_sub(u64::from(self.seats), Ordering::Relaxed);
        } else {
            self.state.give_back(self.seats, ended);
        }
    }
}

/// A request that waits. One that is given up leaves its queue, or gives back what it was just given.
struct Waiting<'a> {
    state: &'a State,
    ticket: Ticket,
    seats: u32,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiting<'_> {
    /// `false`: its turn has come meanwhile.
    fn leave(&mut self) -> bool {
        let mut inner = self.state.queues.lock();
        let gone = inner.queues.leave(self.ticket).is_some();
        if gone {
            self.state.word.fetch_sub(ONE_WAITING, Ordering::AcqRel);
            self.turn = None;
            // Those behind it may need fewer seats.
            self.state.start(&mut inner);
        }
        gone
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.turn.is_some() && !self.leave() {
            self.state
                .give_back(self.seats, Some((self.ticket, Duration::ZERO)));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn level(seats: u32, shape: Option<Shape>) -> Level {
        let shares = Shares {
            nominal: 1,
            lendable: 0,
            borrowing: None,
        };
        let limited = Some(Limited { shares, shape });
        let level = Level::new("test".into(), None, Spec { limited }, None);
        level.set_limit(seats);
        level
    }

    const SHAPE: Shape = Shape {
        queues: 4,
        hand: 2,
        length: 3,
    };

    #[tokio::test]
    async fn seats_are_taken_waited_for_and_given_back() {
        let level = level(2, Some(SHAPE));
        let first = level.enter(1).expect("a seat");
        let second = level.enter(1).expect("a seat");
        assert!(level.enter(1).is_none());
        let mut third = Box::pin(level.wait(1, 1, LONGEST_WAIT));
        let mut wide = Box::pin(level.wait(2, 2, LONGEST_WAIT));
        assert!(third.as_mut().now_or_never().is_none() && wide.as_mut().now_or_never().is_none());
        assert_eq!(level.load(), (2, 2));
        drop(first);
        let third = third.now_or_never().expect("its turn").expect("a seat");
        assert!(level.enter(1).is_none(), "nobody passes who waits");
        assert!(wide.as_mut().now_or_never().is_none());
        drop((second, third));
        let wide = wide.now_or_never().expect("its turn").expect("seats");
        assert_eq!(level.load(), (2, 0));
        drop(wide);
        assert_eq!(level.load(), (0, 0));
        let alone = level.enter(9).expect("a request alone gets what it wants");
        assert!(level.enter(1).is_none());
        drop(alone);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_nothing_behind() {
        let level = level(1, Some(SHAPE));
        let held = level.enter(1).expect("a seat");
        let mut gone = Box::pin(level.wait(1, 1, LONGEST_WAIT));
        let mut next = Box::pin(level.wait(1, 1, LONGEST_WAIT));
        assert!(gone.as_mut().now_or_never().is_none() && next.as_mut().now_or_never().is_none());
        drop(gone);
        assert_eq!(level.load(), (1, 1));
        drop(held); // the next one's turn
        assert_eq!(level.load(), (1, 0));
        drop(next); // which goes away without having looked
        assert_eq!(level.load(), (0, 0));
    }

    #[tokio::test]
    async fn queues_have_their_bounds() {
        let level = level(1, Some(SHAPE));
        let _held = level.enter(1).expect("a seat");
        let mut waiting = Vec::new();
        loop {
            let mut next = Box::pin(level.wait(7, 1, LONGEST_WAIT));
            match next.as_mut().now_or_never() {
                None => waiting.push(next),
                Some(refused) => break assert_eq!(refused.err(), Some(Refused::QueueFull)),
            }
        }
        assert_eq!(waiting.len(), SHAPE.hand * SHAPE.length);
        let other = self::level(1, None);
        let _held = other.enter(1).expect("a seat");
        assert_eq!(
            other.wait(1, 1, LONGEST_WAIT).await.err(),
            Some(Refused::ConcurrencyLimit)
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let level = level(1, Some(SHAPE));
        let _held = level.enter(1).expect("a seat");
        let refused = level.wait(1, 1, Duration::from_millis(10)).await.err();
        assert_eq!(refused, Some(Refused::TimeOut));
        assert_eq!(level.load(), (1, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn there_are_never_more_seats_than_the_limit() {
        let level = Arc::new(level(
            3,
            Some(Shape {
                length: 1000,
                ..SHAPE
            }),
        ));
        let (used, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let tasks = (0..200u64).map(|number| {
            let (level, used, most) = (level.clone(), used.clone(), most.clone());
            tokio::spawn(async move {
                for step in 0..20 {
                    let seats = 1 + (number as u32 + step) % 3;
                    let held = match level.enter(seats) {
                        Some(held) => held,
                        None => level.wait(number % 9, seats, LONGEST_WAIT).await.expect("seats"),
                    };
                    most.fetch_max(used.fetch_add(seats, Ordering::SeqCst) + seats, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    used.fetch_sub(seats, Ordering::SeqCst);
                    drop(held);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("a task");
        }
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(level.load(), (0, 0));
    }
}
