//! What the programs have in common: network options, the stack that they make, logs, signals.

mod attach;
mod interrupt;
mod log;
mod options;
mod session;

pub(crate) use interrupt::{INTERRUPTED, Interrupt};
pub(crate) use options::NetworkOptions;
pub(crate) use session::Session;

use std::io::{self, Write};

/// What a shell calls a program that SIGPIPE ended.
const BROKEN_PIPE: i32 = 141;

/// Prints to standard output, now. Once nobody reads it any more (`| head`), the program ends, as SIGPIPE ends others.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    let mut output = io::stdout().lock();
    let result = output.write_fmt(text).and_then(|()| output.flush());
    if result.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        std::process::exit(BROKEN_PIPE);
    }
}

/// Prints a line to standard error. If nobody reads that any more, the work goes on.
pub(crate) fn tell(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why a program cannot start: one line that says what to do.
#[derive(Clone, Debug)]
pub(crate) struct StartFailure(pub(crate) String);

impl StartFailure {
    /// The exit code of a program that could not start.
    const CODE: i32 = 2;

    /// Prints the line; the exit code.
    pub(crate) fn report(&self, program: &str) -> i32 {
        tell(format_args!("{program}: {}", self.0));
        StartFailure::CODE
    }
}

impl From<io::Error> for StartFailure {
    fn from(error: io::Error) -> StartFailure {
        StartFailure(error.to_string())
    }
}
