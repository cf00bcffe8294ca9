//! The CNI plug-in: one execution attaches or detaches one sandbox.
//!
//! Knows the CNI protocol, the address ledger and links. Must not know the API server: it works while that is away.
//!
//! The binary is installed under two names, `corten` and `loopback`: containerd runs `loopback` for every sandbox
//! before the configured network, so it is answered here instead of by one more package.

mod attach;
pub mod spec;

use std::io::Read;
use std::process::ExitCode;

use serde_json::Value;

use spec::{CniError, Command, Request, code};

pub(crate) use attach::is_alive;

/// The names the executable is installed under.
pub const PLUGIN_NAMES: [&str; 2] = ["corten", "loopback"];

/// Whether this process was started as a CNI plug-in.
pub fn is_invoked() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// Reads the request from the environment and standard input, answers on standard output.
pub fn main() -> ExitCode {
    let mut input = Vec::new();
    let outcome = std::io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_end(&mut input)
        .map_err(|error| CniError::new(code::IO_FAILURE, "cannot read standard input", error.to_string()))
        .and_then(|_| Request::parse(|name| std::env::var(name).ok(), &input))
        .and_then(|request| perform(&request));
    let (answer, exit) = match outcome {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(error) => (Some(error.to_json(&asked_version(&input))), ExitCode::FAILURE),
    };
    if let Some(answer) = answer {
        println!("{answer}");
    }
    exit
}

/// A configuration is some hundred bytes; a runtime that sends more than this is not one.
const MAX_INPUT_BYTES: u64 = 4 << 20;

/// Carries out one request in the namespace of the calling thread.
///
/// # Errors
/// A [`CniError`]; what was half made has been taken back.
pub fn perform(request: &Request) -> Result<Option<Value>, CniError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(|error| CniError::new(code::IO_FAILURE, "cannot start", error.to_string()))?;
    match (request.config.kind.as_str(), request.command) {
        ("loopback", Command::Add) => runtime.block_on(attach::loopback_up(request)).map(Some),
        ("loopback", Command::Check) => runtime.block_on(attach::loopback_check(request)).map(|()| None),
        ("loopback", Command::Del) => Ok(None),
        (_, Command::Add) => runtime.block_on(attach::add(request)).map(Some),
        (_, Command::Check) => runtime.block_on(attach::check(request)).map(|()| None),
        (_, Command::Del) => runtime.block_on(attach::del(request)).map(|()| None),
        (_, Command::Version) => Ok(Some(spec::version(&request.config.cni_version))),
    }
}

/// The version to answer an error in, as far as the input can be read.
fn asked_version(input: &[u8]) -> String {
    let asked = serde_json::from_slice::<Value>(input)
        .ok()
        .and_then(|config| config["cniVersion"].as_str().map(str::to_string))
        .filter(|version| spec::SUPPORTED_VERSIONS.contains(&version.as_str()));
    asked.unwrap_or_else(|| "1.0.0".to_string())
}
