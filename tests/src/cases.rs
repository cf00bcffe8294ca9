//! Several cases on one cluster: one that fails does not hide the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

#[derive(Default)]
pub struct Cases {
    failed: Vec<String>,
    run: usize,
}

impl Cases {
    pub fn new() -> Self {
        Cases::default()
    }

    pub fn case(&mut self, name: &str, body: impl FnOnce()) {
        self.run += 1;
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(body));
        let took = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("  ok      {name} ({took:.1} s)"),
            Err(panic) => {
                println!("  FAILED  {name} ({took:.1} s)");
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                self.failed.push(format!("{name}: {text}"));
            }
        }
    }

    /// Takes over what another set found.
    pub fn merge(&mut self, other: Cases) {
        self.failed.extend(other.failed);
        self.run += other.run;
    }

    /// Panics with everything that failed.
    #[track_caller]
    pub fn finish(self) {
        let (failed, run) = (self.failed.len(), self.run);
        assert!(
            self.failed.is_empty(),
            "{failed} of {run} cases failed:\n- {}",
            self.failed.join("\n- ")
        );
    }
}
