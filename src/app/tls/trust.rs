//! Whom a TLS client trusts, and certificates and keys as files have them.

use super::TlsOptions;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};
use std::io;
use std::sync::Arc;

/// Whom to trust before any extra certificates.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's certificates; Mozilla's, compiled in, where the system has none.
    #[default]
    System,
    /// Nobody: the extra certificates alone.
    None,
}

/// The certificates in PEM text, in order; at least one.
pub fn certificates_from_pem(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(invalid)?;
    if certificates.is_empty() { Err(invalid("no certificate in the PEM text")) } else { Ok(certificates) }
}

/// The first private key in PEM text.
pub fn private_key_from_pem(pem: &[u8]) -> io::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem).map_err(invalid)
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

pub(super) fn configure(
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    provider: Arc<CryptoProvider>,
    options: &TlsOptions,
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    if options.insecure {
        return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))));
    }
    let mut store = match options.roots {
        Roots::System => system_roots(),
        Roots::None => RootCertStore::empty(),
    };
    for certificate in &options.extra_roots {
        store.add(certificate.clone()).map_err(super::failed)?;
    }
    Ok(builder.with_root_certificates(store))
}

fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    // Systems have a few certificates that no parser likes; the others count.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store
}

/// Believes any certificate; signatures are checked all the same, so that a broken server still shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
