//! `-w`: what is printed about a transfer when it is over.

use super::report::Progress;
use std::time::Duration;

/// Everything that `-w` can name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) progress: Progress,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) redirects: usize,
    pub(crate) redirect_url: String,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) file: String,
    pub(crate) exit_code: i32,
    pub(crate) error: String,
    pub(crate) total: Duration,
}

/// Fills a format in: `%{name}`, `%%`, `\n`, `\r`, `\t`, `\\`. Unknown names are left out, as curl does with a warning.
pub(crate) fn expand(format: &str, summary: &Summary) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some(position) = rest.find(['%', '\\']) {
        text.push_str(&rest[..position]);
        rest = &rest[position..];
        let (piece, length) = expand_one(rest, summary);
        text.push_str(&piece);
        rest = &rest[length..];
    }
    text + rest
}

/// What the mark at the front stands for, and its length in bytes.
fn expand_one(rest: &str, summary: &Summary) -> (String, usize) {
    let known = |piece: &str| (piece.to_owned(), 2);
    if let Some(name) = rest.strip_prefix("%{").and_then(|inner| inner.split_once('}')).map(|(name, _)| name) {
        return (value(name, summary), name.len() + 3);
    }
    match rest.get(..2) {
        Some("%%") => known("%"),
        Some("\\n") => known("\n"),
        Some("\\r") => known("\r"),
        Some("\\t") => known("\t"),
        Some("\\\\") => known("\\"),
        _ => (rest[..1].to_owned(), 1),
    }
}

fn value(name: &str, summary: &Summary) -> String {
    let progress = &summary.progress;
    let seconds = |time: Duration| format!("{:.6}", time.as_secs_f64());
    let speed = |bytes: u64| format!("{:.0}", bytes as f64 / summary.total.as_secs_f64().max(1e-6));
    let scheme = summary.url.split(':').next().unwrap_or_default();
    match name {
        "http_code" | "response_code" => format!("{:03}", summary.status),
        "size_download" => summary.downloaded.to_string(),
        "size_upload" => summary.uploaded.to_string(),
        "size_header" => progress.headers.iter().map(Vec::len).sum::<usize>().to_string(),
        "speed_download" => speed(summary.downloaded),
        "speed_upload" => speed(summary.uploaded),
        "time_namelookup" => seconds(progress.resolved_after),
        "time_connect" => seconds(progress.connected_after),
        "time_appconnect" => seconds(progress.secured_after),
        "time_starttransfer" => seconds(progress.answered_after),
        "time_total" => seconds(summary.total),
        "num_connects" => progress.connections.to_string(),
        "num_redirects" => summary.redirects.to_string(),
        "redirect_url" => summary.redirect_url.clone(),
        "url" | "url_effective" => summary.url.clone(),
        "scheme" => scheme.to_owned(),
        "method" => summary.method.clone(),
        "http_version" => "1.1".to_owned(),
        "content_type" => summary.content_type.clone(),
        "filename_effective" => summary.file.clone(),
        "local_ip" => progress.local.map(|local| local.ip().to_string()).unwrap_or_default(),
        "local_port" => progress.local.map(|local| local.port().to_string()).unwrap_or_default(),
        "remote_ip" => progress.remote.map(|remote| remote.ip().to_string()).unwrap_or_default(),
        "remote_port" => progress.remote.map(|remote| remote.port().to_string()).unwrap_or_default(),
        "exitcode" => summary.exit_code.to_string(),
        "errormsg" => summary.error.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_filled_in() {
        let summary = Summary { status: 204, downloaded: 7, url: "https://lab.test/".into(), ..Summary::default() };
        assert_eq!(expand(r"%{http_code} %{size_download}\n100%% %{scheme}%{nonsense}\q%", &summary), "204 7\n100% https\\q%");
    }
}
