//! TLS to Redis: what its certificate must descend from, and the certificate of this node.

use std::path::Path;

use fred::types::config::TlsConnector;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::super::Tls;
use crate::error::{Error, Result};

fn bad(what: String) -> Error {
    Error::terminal(what).code("bad_config")
}

/// The one that all connections use. Terminal error when a file cannot be used.
pub(super) fn connector(files: &Tls) -> Result<TlsConnector> {
    crate::tls::install();
    let config = ClientConfig::builder().with_root_certificates(roots(files)?);
    let config = match (&files.cert, &files.key) {
        (None, None) => config.with_no_client_auth(),
        (Some(cert), Some(key)) => config
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|e| bad(format!("{} and {} cannot be used: {e}", cert.display(), key.display())))?,
        _ => return Err(bad("store.redis_cert and store.redis_key go together: one of them is missing".into())),
    };
    Ok(config.into())
}

fn roots(files: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &files.ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|e| bad(format!("{} cannot be used: {e}", ca.display())))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (_, ignored) = roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(bad(format!(
                    "this system trusts no certificates that can be used{why}, {ignored} cannot be read: set \
                     store.redis_ca to a PEM file"
                )));
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(bad(format!("{} holds no certificate", path.display()))),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| bad(format!("{} cannot be read: {e}", path.display())))
}
