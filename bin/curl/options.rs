//! The command line of hopline-curl: the most used part of curl's, with the same letters.

use crate::common::NetworkOptions;
use clap::{ArgAction, Parser};
use std::path::PathBuf;
use std::time::Duration;

/// Transfers URLs (http, https) over a TCP/IP stack of its own.
///
/// Exit codes are curl's: 3 bad URL, 6 unknown host, 7 no connection, 18 partial body, 22 HTTP error with -f, 23 write error, 28 timeout,
/// 35 TLS, 47 redirects, 52 no answer, 55 and 56 send and receive errors, 60 untrusted certificate.
#[derive(Parser, Clone, Debug)]
#[command(name = "hopline-curl", version, args_override_self = true)]
pub(crate) struct CurlOptions {
    /// What to transfer; without a scheme, http://
    #[arg(required = true)]
    pub(crate) urls: Vec<String>,
    /// Show what happens
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print response headers too
    #[arg(short, long)]
    pub(crate) include: bool,
    /// Ask for headers only
    #[arg(short = 'I', long)]
    pub(crate) head: bool,
    /// No progress, no error messages
    #[arg(short, long)]
    pub(crate) silent: bool,
    /// Error messages even with -s
    #[arg(short = 'S', long)]
    pub(crate) show_error: bool,
    /// Fail on HTTP errors (exit 22) without printing the page
    #[arg(short, long)]
    pub(crate) fail: bool,
    /// Follow redirects
    #[arg(short = 'L', long)]
    pub(crate) location: bool,
    /// Redirects to follow at most; -1 for any number
    #[arg(long, value_name = "NUMBER", default_value_t = 50, allow_negative_numbers = true)]
    pub(crate) max_redirs: i32,
    /// Write to this file; once for each URL
    #[arg(short, long, value_name = "FILE", action = ArgAction::Append)]
    pub(crate) output: Vec<PathBuf>,
    /// Write to a file named as the URL's last part
    #[arg(short = 'O', long)]
    pub(crate) remote_name: bool,
    /// Send this as a form (POST); @FILE takes it from a file
    #[arg(short, long, value_name = "DATA", action = ArgAction::Append, allow_hyphen_values = true)]
    pub(crate) data: Vec<String>,
    /// As -d, but @FILE is sent as it is
    #[arg(long, value_name = "DATA", action = ArgAction::Append, allow_hyphen_values = true)]
    pub(crate) data_binary: Vec<String>,
    /// Put the data of -d into the URL (GET)
    #[arg(short = 'G', long)]
    pub(crate) get: bool,
    /// The request's method
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) request: Option<String>,
    /// Add a header field ("Name: value"); "Name:" removes one
    #[arg(short = 'H', long, value_name = "FIELD", action = ArgAction::Append)]
    pub(crate) header: Vec<String>,
    /// What program to be
    #[arg(short = 'A', long, value_name = "NAME")]
    pub(crate) user_agent: Option<String>,
    /// Where the request comes from
    #[arg(short = 'e', long, value_name = "URL")]
    pub(crate) referer: Option<String>,
    /// Cookies to send: name=value; name=value
    #[arg(short = 'b', long, value_name = "COOKIES")]
    pub(crate) cookie: Option<String>,
    /// User and password (Basic)
    #[arg(short, long, value_name = "USER:PASSWORD")]
    pub(crate) user: Option<String>,
    /// Accept any certificate
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Trust the certificates in this file instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Our certificate, for servers that ask for one
    #[arg(short = 'E', long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// TLS 1.2 or later (always)
    #[arg(long = "tlsv1.2")]
    pub(crate) tls_1_2: bool,
    /// TLS 1.3 or later
    #[arg(long = "tlsv1.3")]
    pub(crate) tls_1_3: bool,
    /// Seconds for the whole transfer
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) max_time: Option<Duration>,
    /// Seconds until the connection stands
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) connect_timeout: Option<Duration>,
    /// Use this address for a host and port: HOST:PORT:ADDRESS[,ADDRESS]
    #[arg(long, value_name = "ENTRY", action = ArgAction::Append)]
    pub(crate) resolve: Vec<String>,
    /// Print this at the end: %{http_code}, %{size_download}, %{time_total}, …
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) write_out: Option<String>,
    /// Upload a file (PUT); - for standard input
    #[arg(short = 'T', long, value_name = "FILE", conflicts_with_all = ["data", "data_binary", "head"])]
    pub(crate) upload_file: Option<PathBuf>,
    /// Go on at this offset; - for the size of the output file
    #[arg(short = 'C', long, value_name = "OFFSET", allow_hyphen_values = true)]
    pub(crate) continue_at: Option<String>,
    /// Ask for a compressed response
    #[arg(long)]
    pub(crate) compressed: bool,
    /// Try again this many times after a timeout or an error that may pass
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) retry: u32,
    /// IPv4 only
    #[arg(short = '4', long)]
    pub(crate) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    pub(crate) ipv6: bool,
    /// Proxies are not supported
    #[arg(short = 'x', long, value_name = "PROXY")]
    pub(crate) proxy: Option<String>,
    #[command(flatten)]
    pub(crate) network: NetworkOptions,
}

/// A number of seconds, with a fraction if need be; 0 is "no limit", as curl has it.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

impl CurlOptions {
    /// Whether error messages are wanted.
    pub(crate) fn shows_errors(&self) -> bool {
        !self.silent || self.show_error
    }
}
