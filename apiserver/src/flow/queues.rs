//! Fair queues of one priority level. Pure: no clock, no threads.
//!
//! A flow is dealt a hand of queues by its hash and joins the shortest (shuffle sharding): a flow that floods fills its hand
//! and leaves the others' queues alone. The next request comes from the queue that has had the least service, counted in
//! seats times seconds (start-time fair queuing). What a request will take is guessed when it starts and put right when it
//! ends. Source: Kubernetes `apiserver/pkg/util/flowcontrol/fairqueuing/queueset`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use std::collections::VecDeque;
use std::time::Duration;

/// What a request is taken to last before it has ended. Source: Kubernetes `estimatedServiceDuration`.
const GUESS: Duration = Duration::from_millis(3);

/// How a level queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub queues: usize,
    pub hand: usize,
    /// Requests that wait in one queue.
    pub length: usize,
}

/// Where a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    queue: usize,
    number: u64,
}

impl Ticket {
    #[must_use]
    pub fn queue(self) -> usize {
        self.queue
    }
}

/// A request that may start.
#[derive(Debug)]
pub struct Started<T> {
    pub seats: u32,
    pub queue: usize,
    pub request: T,
}

struct Waiting<T> {
    number: u64,
    seats: u32,
    request: T,
}

struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Seats of all that wait here.
    seats: u64,
    running: u32,
    /// Service this queue has had, in seat-seconds, on the scale of [`Queues::virtual_time`].
    served: f64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            waiting: VecDeque::new(),
            seats: 0,
            running: 0,
            served: 0.0,
        }
    }
}

/// Requests that wait, each with a `T` of its own.
pub struct Queues<T> {
    shape: Shape,
    queues: Vec<Queue<T>>,
    /// How much service a queue has had that was never idle.
    virtual_time: f64,
    waiting: usize,
    numbers: u64,
    /// The queue that was served last; the one after it wins a tie.
    last: usize,
}

impl<T> Queues<T> {
    #[must_use]
    pub fn new(shape: Shape) -> Queues<T> {
        let mut queues = Queues {
            shape,
            queues: Vec::new(),
            virtual_time: 0.0,
            waiting: 0,
            numbers: 0,
            last: 0,
        };
        queues.reshape(shape);
        queues
    }

    /// Changes how many queues there are. What waits beyond them is still served; nothing new joins it.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        while self.queues.len() < shape.queues {
            self.queues.push(Queue::default());
        }
    }

    /// Requests that wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.waiting
    }

    /// Puts a request of the flow `hash` into a queue.
    ///
    /// # Errors
    /// The request comes back when the queue is full, or when there are no queues.
    pub fn join(&mut self, hash: u64, seats: u32, request: T) -> Result<Ticket, T> {
        let (deck, numbers) = (self.shape.queues, self.numbers);
        let offset = usize::try_from(numbers).unwrap_or(0);
        let hand: Vec<usize> = deal(hash, deck, self.shape.hand).collect();
        if hand.is_empty() {
            return Err(request);
        }
        // Flows whose hands overlap do not all prefer the same queue.
        let order = (0..hand.len()).map(|at| hand[(at + offset % hand.len()) % hand.len()]);
        let Some(at) = order.min_by_key(|at| self.queues[*at].seats) else {
            return Err(request);
        };
        let virtual_time = self.virtual_time;
        let queue = &mut self.queues[at];
        if queue.waiting.len() >= self.shape.length {
            return Err(request);
        }
        if queue.waiting.is_empty() && queue.running == 0 {
            queue.served = virtual_time; // service that was not asked for is not owed
        }
        queue.waiting.push_back(Waiting {
            number: numbers,
            seats,
            request,
        });
        queue.seats += u64::from(seats);
        self.numbers += 1;
        self.waiting += 1;
        Ok(Ticket {
            queue: at,
            number: numbers,
        })
    }

    /// The queue whose turn it is.
    fn turn(&self) -> Option<usize> {
        let count = self.queues.len();
        let order = (1..=count).map(|step| (self.last + step) % count);
        let busy = order.filter(|at| !self.queues[*at].waiting.is_empty());
        busy.min_by(|a, b| self.queues[*a].served.total_cmp(&self.queues[*b].served))
    }

    /// The seats of the request whose turn it is.
    #[must_use]
    pub fn next_seats(&self) -> Option<u32> {
        let queue = &self.queues[self.turn()?];
        queue.waiting.front().map(|request| request.seats)
    }

    /// Takes the request whose turn it is.
    pub fn start(&mut self) -> Option<Started<T>> {
        let at = self.turn()?;
        let queue = &mut self.queues[at];
        let next = queue.waiting.pop_front()?;
        queue.seats -= u64::from(next.seats);
        queue.running += 1;
        self.virtual_time = self.virtual_time.max(queue.served);
        queue.served += cost(next.seats, GUESS);
        self.waiting -= 1;
        self.last = at;
        Some(Started {
            seats: next.seats,
            queue: at,
            request: next.request,
        })
    }

    /// A request that came from `queue` has ended after `took`.
    pub fn end(&mut self, queue: usize, seats: u32, took: Duration) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.running = queue.running.saturating_sub(1);
            queue.served += cost(seats, took) - cost(seats, GUESS);
        }
    }

    /// Takes a request out that waits no longer; `None`: it has started.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let queue = self.queues.get_mut(ticket.queue)?;
        let at = queue
            .waiting
            .iter()
            .position(|request| request.number == ticket.number)?;
        let gone = queue.waiting.remove(at)?;
        queue.seats -= u64::from(gone.seats);
        self.waiting -= 1;
        Some(gone.request)
    }
}

fn cost(seats: u32, took: Duration) -> f64 {
    f64::from(seats) * took.as_secs_f64()
}

/// `hand` different numbers below `deck`. Source: Kubernetes `shufflesharding.Dealer`.
fn deal(mut hash: u64, deck: usize, hand: usize) -> impl Iterator<Item = usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand);
    (0..hand.min(deck)).map(move |number| {
        let left = (deck - number) as u64;
        let mut card = usize::try_from(hash % left).unwrap_or(0);
        hash /= left;
        // `card` counts the cards that are left: those dealt before it, in order, move it on.
        dealt.sort_unstable();
        for before in &dealt {
            if card >= *before {
                card += 1;
            }
        }
        dealt.push(card);
        card
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape {
        queues: 16,
        hand: 4,
        length: 20,
    };

    /// Spreads flows as a hash would.
    fn hash(flow: u64) -> u64 {
        (flow + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(17)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    proptest! {
        #[test]
        fn a_hand_has_no_card_twice(hash: u64, deck in 1usize..200, hand in 1usize..10) {
            let cards: Vec<usize> = deal(hash, deck, hand).collect();
            let different: BTreeSet<usize> = cards.iter().copied().collect();
            prop_assert_eq!(cards.len(), hand.min(deck));
            prop_assert_eq!(different.len(), cards.len());
            prop_assert!(cards.iter().all(|card| *card < deck));
        }

        /// Everything that joined comes out once, by start or leave, and the bounds hold at each step.
        #[test]
        fn nothing_is_lost_or_served_twice(steps in prop::collection::vec((0u8..4, 0u64..6, 1u32..5), 1..300)) {
            let mut queues = Queues::new(SHAPE);
            let (mut inside, mut tickets, mut next) = (BTreeSet::new(), BTreeMap::new(), 0u64);
            let mut running = Vec::new();
            for (what, flow, seats) in steps {
                match what {
                    0 | 1 => {
                        next += 1;
                        if let Ok(ticket) = queues.join(hash(flow), seats, next) {
                            inside.insert(next);
                            tickets.insert(next, ticket);
                        }
                    }
                    2 => {
                        let seats = queues.next_seats();
                        let started = queues.start();
                        prop_assert_eq!(seats, started.as_ref().map(|s| s.seats));
                        if let Some(started) = started {
                            prop_assert!(inside.remove(&started.request));
                            prop_assert_eq!(queues.leave(tickets[&started.request]), None);
                            running.push((started.queue, started.seats));
                        }
                    }
                    _ => {
                        if let Some((queue, seats)) = running.pop() {
                            queues.end(queue, seats, Duration::from_millis(flow));
                        }
                        if let Some(number) = inside.iter().next().copied() {
                            prop_assert_eq!(queues.leave(tickets[&number]), Some(number));
                            inside.remove(&number);
                        }
                    }
                }
                prop_assert_eq!(queues.waiting(), inside.len());
                prop_assert!(queues.queues.iter().all(|queue| queue.waiting.len() <= SHAPE.length));
            }
            while let Some(started) = queues.start() {
                prop_assert!(inside.remove(&started.request));
            }
            prop_assert!(inside.is_empty());
        }

        /// One request of a quiet flow among floods is served after no more than each queue's turn: nobody starves.
        #[test]
        fn no_request_starves(floods in 1u64..8, quiet in 100u64..200, took in 1u64..50) {
            let mut queues = Queues::new(SHAPE);
            let flood = |queues: &mut Queues<u64>| {
                for flow in 0..floods {
                    while queues.join(hash(flow), 1, flow).is_ok() {}
                }
            };
            flood(&mut queues);
            for _ in 0..200 {
                let started = queues.start().expect("there is a flood");
                queues.end(started.queue, started.seats, Duration::from_millis(took));
                flood(&mut queues);
            }
            // Its hand may be full: then it is refused at once, which is an answer.
            if queues.join(hash(quiet), 1, quiet).is_ok() {
                let mut before = 0;
                loop {
                    let started = queues.start().expect("something waits");
                    queues.end(started.queue, started.seats, Duration::from_millis(took));
                    if started.request == quiet {
                        break;
                    }
                    before += 1;
                    prop_assert!(before <= SHAPE.queues * (SHAPE.length + 1), "waited for {}", before);
                    flood(&mut queues);
                }
            }
        }
    }

    /// Flows that always have something waiting get the same seat-seconds, whatever one request of theirs costs.
    #[test]
    fn busy_flows_share_evenly() {
        let shape = Shape {
            queues: 64,
            hand: 1,
            length: 4,
        };
        let flows: Vec<(u64, u32, u64)> = vec![(1, 1, 3), (2, 1, 30), (3, 4, 3), (4, 2, 12)];
        let of = |flow: u64| deal(hash(flow), shape.queues, shape.hand).next();
        let different: BTreeSet<_> = flows.iter().map(|(flow, ..)| of(*flow)).collect();
        assert_eq!(
            different.len(),
            flows.len(),
            "the flows of this test have queues of their own"
        );
        let mut queues = Queues::new(shape);
        let mut service: BTreeMap<u64, f64> = BTreeMap::new();
        for _ in 0..20_000 {
            for (flow, seats, took) in &flows {
                while queues.join(hash(*flow), *seats, (*flow, *took)).is_ok() {}
            }
            let started = queues.start().expect("something waits");
            let (flow, took) = started.request;
            let took = Duration::from_millis(took);
            queues.end(started.queue, started.seats, took);
            *service.entry(flow).or_default() += cost(started.seats, took);
        }
        let most = service.values().copied().fold(0.0, f64::max);
        let least = service.values().copied().fold(f64::MAX, f64::min);
        assert!(most - least < most * 0.02, "{service:?}");
    }

    #[test]
    fn a_flow_that_was_idle_is_not_owed_what_it_did_not_ask_for() {
        let shape = Shape {
            queues: 8,
            hand: 1,
            length: 1000,
        };
        let mut queues = Queues::new(shape);
        let idle = (1..).find(|flow| deal(hash(*flow), 8, 1).next() != deal(hash(0), 8, 1).next());
        let idle = idle.expect("there is another queue");
        for _ in 0..500 {
            assert!(queues.join(hash(0), 1, 0).is_ok());
        }
        for _ in 0..400 {
            let started = queues.start().expect("something waits");
            queues.end(started.queue, 1, GUESS);
        }
        for _ in 0..100 {
            assert!(queues.join(hash(idle), 1, idle).is_ok());
        }
        let next: Vec<u64> = (0..20)
            .map(|_| {
                let started = queues.start().expect("something waits");
                queues.end(started.queue, 1, GUESS);
                started.request
            })
            .collect();
        let own = next.iter().filter(|flow| **flow == 0).count();
        assert!((9..=11).contains(&own), "{next:?}");
    }
}
