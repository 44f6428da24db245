//! Where a response goes: standard output or a file, with a progress bar on a terminal.

use super::failure::{Code, Failure};
use super::options::CurlOptions;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use ureq::http::Uri;

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
/// Bodies shorter than this are there before a bar is read.
const WORTH_A_BAR: u64 = 1 << 20;

/// Where the response of one URL goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    StandardOutput,
    File(PathBuf),
}

impl Target {
    /// The `index`th URL's target: its `-o`, or its own name with `-O`.
    pub(crate) fn of(options: &CurlOptions, index: usize, uri: &Uri) -> Result<Target, Failure> {
        match options.output.get(index) {
            Some(path) if path.as_os_str() == "-" => Ok(Target::StandardOutput),
            Some(path) => Ok(Target::File(path.clone())),
            None if options.remote_name => remote_name(uri).map(Target::File),
            None => Ok(Target::StandardOutput),
        }
    }

    /// Where to go on: the offset that `-C` says, or the size of the file that is there.
    pub(crate) fn offset(&self, options: &CurlOptions) -> Result<Option<u64>, Failure> {
        match (options.continue_at.as_deref(), self) {
            (None, _) => Ok(None),
            (Some("-"), Target::File(path)) => Ok(Some(path.metadata().map_or(0, |metadata| metadata.len()))),
            (Some("-"), Target::StandardOutput) => Err(Failure::new(Code::Usage, "-C - needs an output file")),
            (Some(text), _) => {
                let offset = text.parse().map_err(|_| Failure::new(Code::Usage, format!("{text:?} is not an offset")))?;
                Ok(Some(offset))
            }
        }
    }

    /// Opens it; with `append` what is there stays.
    pub(crate) fn open(&self, append: bool) -> Result<Sink, Failure> {
        match self {
            Target::StandardOutput => Ok(Sink::StandardOutput(io::stdout())),
            Target::File(path) => {
                let mut options = OpenOptions::new();
                let opened = options.create(true).write(true).append(append).truncate(!append).open(path);
                opened.map(Sink::File).map_err(|error| unwritable(path, &error))
            }
        }
    }

    fn is_file(&self) -> bool {
        matches!(self, Target::File(_))
    }
}

fn remote_name(uri: &Uri) -> Result<PathBuf, Failure> {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::new(Code::Write, "Remote file name has no length: use -o"));
    }
    Ok(PathBuf::from(name))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Code::Write, format!("Failure writing output to {}: {error}", path.display()))
}

/// An open target.
pub(crate) enum Sink {
    StandardOutput(io::Stdout),
    File(File),
}

impl Sink {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = match self {
            Sink::StandardOutput(output) => output.write_all(bytes),
            Sink::File(file) => file.write_all(bytes),
        };
        result.map_err(|error| Failure::new(Code::Write, format!("Failure writing output: {error}")))
    }

    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let result = match self {
            Sink::StandardOutput(output) => output.flush(),
            Sink::File(_) => Ok(()),
        };
        result.map_err(|error| Failure::new(Code::Write, format!("Failure writing output: {error}")))
    }
}

/// What ended a copy before its time.
pub(crate) enum CopyError {
    Read(io::Error),
    Write(Failure),
}

/// Copies a body; `copied` tells how many bytes have passed, also when it fails.
pub(crate) fn copy(body: &mut impl Read, sink: &mut Sink, bar: &ProgressBar, copied: &mut u64) -> Result<(), CopyError> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = match body.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        sink.write(piece.get(..count).unwrap_or_default()).map_err(CopyError::Write)?;
        *copied += count as u64;
        bar.inc(count as u64);
    }
    sink.finish().map_err(CopyError::Write)
}

/// A bar for a long download to a file, on a terminal; otherwise one that is not seen.
pub(crate) fn progress_bar(options: &CurlOptions, target: &Target, length: Option<u64>) -> ProgressBar {
    let is_long = length.is_none_or(|length| length >= WORTH_A_BAR);
    if options.silent || !target.is_file() || !is_long || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    match ProgressStyle::with_template(if length.is_some() { template } else { "{spinner} {bytes} {binary_bytes_per_sec}" }) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
