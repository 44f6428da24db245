//! What programs do with a stack: TLS, HTTP, and a network to try both on. Uses sockets and the resolver, nothing below them.

#[cfg(feature = "tls")]
pub mod tls;

#[cfg(feature = "http")]
pub mod http;

#[cfg(feature = "lab")]
pub mod lab;
