use super::*;
use crate::app::http::{self, HttpOptions};
use crate::app::tls::{self, TlsClient};
use crate::wire::dns::RecordType;
use std::io::{Read, Write};

fn lab() -> Lab {
    Lab::start(LabOptions::default()).unwrap()
}

fn agent(lab: &Lab) -> ureq::Agent {
    let tls = TlsClient::new(lab.tls_options()).unwrap();
    http::agent(lab.stack().clone(), HttpOptions::new(tls))
}

#[test]
fn echo_discard_and_generated_characters() {
    let lab = lab();
    let mut echo = lab.stack().connect("lab.test:7").unwrap();
    echo.write_all(b"hello").unwrap();
    echo.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    echo.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let mut discard = lab.stack().connect("lab.test:9").unwrap();
    discard.write_all(&[0; 100_000]).unwrap();
    let mut line = [0; 74];
    lab.stack().connect("lab.test:19").unwrap().read_exact(&mut line).unwrap();
    assert!(line.ends_with(b"\r\n") && line.starts_with(b" !\"#"));
}

#[test]
fn names_by_udp_by_tcp_and_not_at_all() {
    let lab = lab();
    let resolve = |name: &str| lab.stack().resolve(name);
    assert_eq!(resolve("alias.lab.test").unwrap(), [std::net::IpAddr::from(SERVER)]);
    assert_eq!(resolve("many.lab.test").unwrap().len(), 120, "these come over TCP");
    assert_eq!(resolve("nowhere.lab.test").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(resolve("loop.lab.test").unwrap_err().to_string().contains("CNAME loop"));
    let resolver = Resolver::new(ResolverConfig::for_servers(&[SERVER.into()]), Hosts::default()).unwrap();
    assert_eq!(resolver.lookup(lab.stack(), "big.lab.test", RecordType::TXT).unwrap().records.len(), 16);
}

#[test]
fn pages_over_http_and_https() {
    let lab = lab();
    let agent = agent(&lab);
    for url in ["http://lab.test/", "https://www.lab.test/", "https://lab.test/redirect/3"] {
        let page = agent.get(url).call().unwrap().body_mut().read_to_string().unwrap();
        assert!(page.contains("It works"), "{url}");
    }
    let text = agent.get("https://lab.test/chunked/3").call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(text, "chunk 0\nchunk 1\nchunk 2\n");
    let data = vec![7; 300_000];
    let report = agent.put("https://lab.test/upload").send(&data[..]).unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(report, format!("received 300000 bytes, hash {:016x}\n", body_hash(&data)));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let lab = lab();
    let client = TlsClient::new(lab.tls_options()).unwrap();
    let error = client.connect(lab.stack(), "wrong.lab.test:443").unwrap_err();
    assert!(tls::certificate_problem(&error).is_some(), "{error}");
}

#[test]
fn big_downloads_are_exact_over_a_bad_link() {
    let impairments = Impairments { loss: 0.02, delay: Duration::from_millis(2), ..Impairments::default() };
    let lab = Lab::start(LabOptions { impairments, ..LabOptions::default() }).unwrap();
    let length = 1_000_000;
    let response = agent(&lab).get(format!("https://lab.test/bytes/{length}")).call().unwrap();
    let body = response.into_body().into_with_config().limit(u64::MAX).read_to_vec().unwrap();
    let mut expected = vec![0; length];
    deterministic_bytes(0, &mut expected);
    assert!(body == expected);
}

#[test]
fn connections_are_kept_and_found_open_again() {
    struct Connections(std::sync::atomic::AtomicUsize);
    impl http::HttpObserver for Connections {
        fn observe(&self, step: http::HttpStep<'_>) {
            if matches!(step, http::HttpStep::Connected(_)) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    let lab = lab();
    let connections = Arc::new(Connections(Default::default()));
    let tls = TlsClient::new(lab.tls_options()).unwrap();
    let agent = http::agent(lab.stack().clone(), HttpOptions { observer: Some(connections.clone()), ..HttpOptions::new(tls) });
    for _ in 0..5 {
        agent.get("https://lab.test/").call().unwrap().body_mut().read_to_string().unwrap();
    }
    assert_eq!(connections.0.load(std::sync::atomic::Ordering::Relaxed), 1);
}
