//! The lab's web server reads anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hopline::app::lab::fuzzing::serve_http(data));
