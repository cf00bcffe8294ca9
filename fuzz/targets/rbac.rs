//! Authorization by Roles: the compiled rules of any policy say what a naive reading says, and less rules allow less.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    corten_apiserver::fuzzing::rbac(data);
});
