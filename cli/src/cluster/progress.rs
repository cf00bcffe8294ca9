//! What a waiting user sees: a spinner on a terminal, plain lines elsewhere. Always on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    last: String,
}

impl Progress {
    pub fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress {
            bar,
            started: Instant::now(),
            last: String::new(),
        }
    }

    /// What is being waited for now; the same text twice is shown once.
    pub fn waiting_for(&mut self, what: impl Into<String>) {
        let what = what.into();
        if what == self.last {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(what.clone()),
            None => eprintln!("{}{what}", self.clock()),
        }
        self.last = what;
    }

    /// A step that is done; stays on the screen.
    pub fn done(&mut self, what: &str) {
        let line = format!("{}{what}", self.clock());
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn clock(&self) -> String {
        format!("{:6.2} s  ", self.started.elapsed().as_secs_f64())
    }
}
