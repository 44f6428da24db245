//! The lab's certificate authority: made at start, gone at the end, trusted by nobody who was not told.

use crate::app::tls::{self, CertificateDer, PrivateKeyDer, ServerConfig};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::io;
use std::sync::Arc;

/// An authority, and a server that it vouches for.
pub(super) struct Certificates {
    pub(super) authority: CertificateDer<'static>,
    pub(super) authority_pem: String,
    pub(super) server: Arc<ServerConfig>,
}

impl Certificates {
    /// For a server with these names and addresses.
    pub(super) fn make(names: &[&str]) -> io::Result<Certificates> {
        make(names).map_err(io::Error::other)?
    }
}

fn make(names: &[&str]) -> Result<io::Result<Certificates>, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.distinguished_name.push(DnType::CommonName, "Hopline lab authority");
    let authority = parameters.self_signed(&authority_key)?;
    let issuer = Issuer::new(parameters, authority_key);

    let server_key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>())?;
    parameters.distinguished_name.push(DnType::CommonName, "Hopline lab");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = parameters.signed_by(&server_key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(server_key.serialize_der().into());
    let chain = vec![certificate.der().clone(), authority.der().clone()];
    let finish = |server| Certificates { authority: authority.der().clone(), authority_pem: authority.pem(), server };
    Ok(tls::server_config(chain, key, &[b"http/1.1"]).map(finish))
}
