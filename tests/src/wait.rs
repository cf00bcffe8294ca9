//! Waiting for a condition with a deadline.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks at a condition that nothing announces.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks until there is an answer. Panics after `deadline` with the last reason why there was none.
#[track_caller]
pub fn eventually<T, E: Display>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Result<T, E>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(reason) if started.elapsed() > deadline => {
                panic!("{what}: not within {deadline:?}; last: {reason}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// As [`eventually`], and says how long it took.
#[track_caller]
pub fn within<E: Display>(what: &str, deadline: Duration, ask: impl FnMut() -> Result<(), E>) -> Duration {
    let started = Instant::now();
    eventually(what, deadline, ask);
    started.elapsed()
}

/// `Ok` when `holds`, the text otherwise: for use inside [`eventually`].
pub fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
