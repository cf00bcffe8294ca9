//! The simulator of the store: real replicas, MVCC, watch hub and the front end's way to read, in one thread on a fake
//! network, disk and clock. A run is a seed; the same seed gives the same run.

mod admin;
pub mod blind;
#[cfg(feature = "planted")]
pub mod catalogue;
mod client;
mod front;
mod member;
mod model;
mod nemesis;
mod network;
pub mod options;
mod random;
pub mod run;
mod watcher;
mod world;

pub use options::{Fault, Faults, Limits, Options};
pub use run::{Failure, run, shrink};
pub use world::Report;
