//! One module per promise to the user. Run as root: `cargo test -p corten-tests -- --test-threads=1`.

mod backup;
mod bad_input;
mod canary;
mod clients;
mod custom_resource;
mod disk_full;
mod extension;
mod helm;
mod hostile;
mod join;
mod kubectl_matrix;
mod kubectl_verbs;
mod leaves_nothing;
mod main_job;
mod node_cut;
mod operators;
mod rolling_update;
mod rollover;
mod scheduling;
mod self_healing;
mod server_killed;
mod three_servers;
mod witness;
