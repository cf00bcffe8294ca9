//! Clients: what they ask, and what their answers must be. Each has a session of its own and one request at a time.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use corten_store::{Entry, Op, Precondition, Revision, Store, StoreError, Txn, TxnOutcome, command};

use crate::blind::{Action, Expect, Operation};
use crate::front::{self, Read, Why};
use crate::model::{Model, Outcome};
use crate::options::Time;
use crate::random::Random;

/// Keys that only single-key operations touch: their history is checked without revisions too.
pub const REGISTERS: u64 = 4;
/// Keys of transactions over several.
const SHARED_KEYS: u64 = 12;
/// Entries of a page.
const PAGE: usize = 5;

pub enum Answer {
    Txn(Result<TxnOutcome, StoreError>),
    /// Whether it did is nobody's concern.
    Compacted,
    /// A read confirmed at a revision, or of one.
    Read(Read),
}

/// What a request was, to judge its answer by.
#[derive(Clone, Debug)]
pub enum Doing {
    Txn {
        data: Bytes,
        register: Option<(u64, Expect, Option<Bytes>)>,
    },
    Compact,
    /// Everything acknowledged before must be in it.
    Newest {
        register: u64,
    },
    /// Not older than what the session has seen.
    Session,
    /// The state of exactly this revision, from this key on.
    Page {
        revision: u64,
        start: Bytes,
    },
}

pub struct Flight {
    pub future: Pin<Box<dyn Future<Output = Answer>>>,
    pub doing: Doing,
    /// The newest revision that anybody was told of before the request was made.
    pub floor: u64,
    pub invoked: u64,
    pub deadline: Time,
}

pub struct Client {
    number: u64,
    requests: u64,
    /// Whom it talks to, by place.
    pub member: usize,
    /// The newest revision of its session.
    pub seen: u64,
    pub flight: Option<Flight>,
    page: Option<(u64, Bytes)>,
}

/// What clients know together.
#[derive(Default)]
pub struct Shared {
    /// The newest revision that anybody was told of.
    pub floor: u64,
    /// Transactions that were said never to happen.
    pub refused: Vec<Bytes>,
    /// By register.
    pub registers: [Vec<Operation>; REGISTERS as usize],
    /// Orders requests and answers.
    pub moment: u64,
    pub acknowledged: u64,
    pub reads: u64,
    pub unknown: u64,
}

impl Shared {
    fn moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }
}

fn register_key(register: u64) -> Bytes {
    Bytes::from(format!("/r/{register}"))
}

fn shared_key(random: &mut Random) -> Bytes {
    Bytes::from(format!("/m/{:02}", random.below(SHARED_KEYS)))
}

fn value_of(entry: Option<&std::sync::Arc<Entry>>) -> Option<Bytes> {
    entry.map(|entry| entry.value.clone())
}

impl Client {
    pub fn new(number: u64, member: usize) -> Self {
        Client {
            number,
            requests: 0,
            member,
            seen: 1,
            flight: None,
            page: None,
        }
    }

    /// Makes the next request.
    pub fn ask(
        &mut self,
        store: Store,
        shared: &mut Shared,
        random: &mut Random,
        compact: bool,
        deadline: Time,
    ) {
        let (future, doing) = self.choose(store, random, compact);
        self.flight = Some(Flight {
            future,
            doing,
            floor: shared.floor,
            invoked: shared.moment(),
            deadline,
        });
    }

    fn choose(
        &mut self,
        store: Store,
        random: &mut Random,
        compact: bool,
    ) -> (Pin<Box<dyn Future<Output = Answer>>>, Doing) {
        self.requests += 1;
        if compact && random.chance(0.05) {
            let newest = store.snapshot().revision().0;
            let back = if random.chance(0.5) { 0 } else { random.below(20) };
            let revision = Revision(newest.saturating_sub(back).max(1));
            let future = async move {
                let _ = store.compact(revision).await;
                Answer::Compacted
            };
            return (Box::pin(future), Doing::Compact);
        }
        if let Some((revision, start)) = self.page.take() {
            let future = async move { Answer::Read(front::exact(store, revision).await) };
            return (Box::pin(future), Doing::Page { revision, start });
        }
        match random.below(100) {
            0..15 => {
                let register = random.below(REGISTERS);
                let future = async move { Answer::Read(front::newest(store).await) };
                (Box::pin(future), Doing::Newest { register })
            }
            15..25 => {
                let seen = self.seen;
                let future = async move { Answer::Read(front::not_older_than(store, seen).await) };
                (Box::pin(future), Doing::Session)
            }
            25..33 => {
                let revision = self.seen.saturating_sub(random.below(30)).max(1);
                let start = Bytes::from_static(b"/");
                let future = async move { Answer::Read(front::exact(store, revision).await) };
                (Box::pin(future), Doing::Page { revision, start })
            }
            33..75 => self.write_register(store, random),
            _ => self.write_several(store, random),
        }
    }

    fn value(&self, random: &mut Random) -> Bytes {
        let tag = b'a' + random.below(3) as u8;
        let mut value = format!("{}{}.{}", tag as char, self.number, self.requests).into_bytes();
        if random.chance(0.02) {
            value.resize(random.range(100, 3000) as usize, b'.');
        }
        value.into()
    }

    /// A precondition that always holds, and makes the transaction unlike all others.
    fn unlike_others(&self) -> Precondition {
        Precondition::Absent(Bytes::from(format!("/id/{}.{}", self.number, self.requests)))
    }

    fn write_register(
        &mut self,
        store: Store,
        random: &mut Random,
    ) -> (Pin<Box<dyn Future<Output = Answer>>>, Doing) {
        let register = random.below(REGISTERS);
        let key = register_key(register);
        let value = self.value(random);
        let held = store.snapshot().get(&key);
        let (mut preconditions, mut expect) = (vec![self.unlike_others()], Expect::Anything);
        if random.chance(0.7) {
            expect = Expect::Held(value_of(held.as_ref()));
            preconditions.push(match &held {
                Some(entry) => Precondition::ModRevision(key.clone(), entry.mod_revision),
                None => Precondition::Absent(key.clone()),
            });
        }
        let (op, new) = if random.chance(0.25) {
            (Op::Delete { key }, None)
        } else {
            let new = Some(value.clone());
            (Op::Put { key, value }, new)
        };
        let txn = Txn::new(preconditions, vec![op]);
        self.txn(store, txn, Some((register, expect, new)))
    }

    fn write_several(
        &mut self,
        store: Store,
        random: &mut Random,
    ) -> (Pin<Box<dyn Future<Output = Answer>>>, Doing) {
        let snapshot = store.snapshot();
        let (mut preconditions, mut ops) = (vec![self.unlike_others()], Vec::new());
        for _ in 0..random.range(1, 4) {
            let key = shared_key(random);
            let held = snapshot.get(&key);
            if random.chance(0.5) {
                preconditions.push(match &held {
                    Some(_) if random.chance(0.3) => Precondition::Exists(key.clone()),
                    Some(entry) => Precondition::ModRevision(key.clone(), entry.mod_revision),
                    None => Precondition::Absent(key.clone()),
                });
            }
            ops.push(if random.chance(0.3) {
                Op::Delete { key }
            } else {
                let value = self.value(random);
                Op::Put { key, value }
            });
        }
        self.txn(store, Txn::new(preconditions, ops), None)
    }

    fn txn(
        &self,
        store: Store,
        txn: Txn,
        register: Option<(u64, Expect, Option<Bytes>)>,
    ) -> (Pin<Box<dyn Future<Output = Answer>>>, Doing) {
        let data = Bytes::from(command::encode_txn(&txn));
        let future = async move { Answer::Txn(store.txn(txn).await) };
        (Box::pin(future), Doing::Txn { data, register })
    }

    /// The connection broke, or the client has waited long enough: nobody knows.
    pub fn give_up(&mut self, shared: &mut Shared) {
        let Some(flight) = self.flight.take() else { return };
        shared.unknown += 1;
        if let Doing::Txn {
            register: Some((register, expect, new)),
            ..
        } = flight.doing
        {
            note(
                shared,
                register,
                flight.invoked,
                u64::MAX,
                Action::Perhaps { expect, new },
            );
        }
    }

    /// Judges an answer; the index of the entry that was acknowledged with it.
    pub fn answered(&mut self, answer: Answer, model: &Model, shared: &mut Shared) -> Option<u64> {
        let flight = self.flight.take()?;
        let returned = shared.moment();
        match (answer, flight.doing) {
            (Answer::Txn(Ok(outcome)), Doing::Txn { data, register }) => {
                let settled = model
                    .settled(&data)
                    .unwrap_or_else(|| panic!("S5: {outcome:?} was acknowledged and is not in the log"));
                model.check_outcome(&settled.outcome, &outcome);
                let before = model.revision_at(settled.index - 1);
                assert!(
                    before >= flight.floor,
                    "§6.3: a transaction saw revision {before}, but {} was known before",
                    flight.floor
                );
                if let Some((register, expect, new)) = register {
                    let action = match &settled.outcome {
                        Outcome::Committed { .. } => Action::Write { expect, new },
                        Outcome::Conflict { current, .. } => Action::Refused {
                            expect,
                            held: current.as_ref().map(|kept| kept.value.clone()),
                        },
                    };
                    note(shared, register, flight.invoked, returned, action);
                }
                self.saw(settled.revision, shared);
                shared.acknowledged += 1;
                Some(settled.index)
            }
            (Answer::Txn(Err(StoreError::Ambiguous(_))), Doing::Txn { register, .. }) => {
                shared.unknown += 1;
                if let Some((register, expect, new)) = register {
                    note(
                        shared,
                        register,
                        flight.invoked,
                        u64::MAX,
                        Action::Perhaps { expect, new },
                    );
                }
                None
            }
            (Answer::Txn(Err(_)), Doing::Txn { data, .. }) => {
                assert!(
                    model.settled(&data).is_none(),
                    "§6.3: a transaction that was refused has happened"
                );
                shared.refused.push(data);
                None
            }
            (Answer::Read(read), doing) => {
                self.read(
                    read,
                    doing,
                    (flight.floor, flight.invoked, returned),
                    model,
                    shared,
                );
                None
            }
            _ => None,
        }
    }

    fn read(
        &mut self,
        read: Read,
        doing: Doing,
        (floor, invoked, returned): (u64, u64, u64),
        model: &Model,
        shared: &mut Shared,
    ) {
        let (confirmed, snapshot) = match read {
            Ok(read) => read,
            Err(Why::TooLarge { newest }) => {
                // What a session has seen was committed, and a barrier has passed since.
                let asked = match doing {
                    Doing::Page { revision, .. } => revision,
                    _ => self.seen,
                };
                panic!("W9: revision {asked} is told to be in the future after {newest}");
            }
            Err(Why::Compacted { oldest }) => {
                if let Doing::Page { revision, .. } = doing {
                    assert!(
                        revision < oldest,
                        "A7: revision {revision} is not older than {oldest}"
                    );
                }
                return;
            }
            Err(Why::Unavailable) => return,
        };
        shared.reads += 1;
        let revision = snapshot.revision().0;
        match doing {
            Doing::Newest { register } => {
                model.check_state(&snapshot, true, "a newest read");
                assert!(
                    confirmed >= floor && revision >= confirmed,
                    "§6.3: a stale read: confirmed {confirmed}, state {revision}, but {floor} was known before"
                );
                let held = value_of(snapshot.get(&register_key(register)).as_ref());
                note(shared, register, invoked, returned, Action::Read(held));
                self.saw(revision, shared);
            }
            Doing::Session => {
                model.check_state(&snapshot, true, "a session's read");
                assert!(
                    revision >= self.seen,
                    "§6.3: a session went back from {} to {revision}",
                    self.seen
                );
                self.saw(revision, shared);
            }
            Doing::Page {
                revision: asked,
                start,
            } => {
                assert_eq!(revision, asked, "A7: a page of another revision");
                model.check_state(&snapshot, false, "a list's page");
                let rest = start..Bytes::from_static(b"0");
                let page: Vec<_> = snapshot.range(rest).take(PAGE + 1).collect();
                if page.len() > PAGE {
                    self.page = Some((asked, front::next_key(&page[PAGE - 1].key)));
                }
            }
            Doing::Txn { .. } | Doing::Compact => {}
        }
    }

    fn saw(&mut self, revision: u64, shared: &mut Shared) {
        self.seen = self.seen.max(revision);
        shared.floor = shared.floor.max(revision);
    }
}

fn note(shared: &mut Shared, register: u64, invoked: u64, returned: u64, action: Action) {
    shared.registers[register as usize].push(Operation {
        invoked,
        returned,
        action,
    });
}
