//! Encryption: rustls on ring, with the certificates that the system trusts.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

/// The settings of every encrypted connection. No global provider is installed.
pub(super) fn config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    match builder.clone().with_platform_verifier() {
        Ok(trusting) => Ok(trusting.with_no_client_auth()),
        Err(error) => {
            // A mirror without encryption still works; everything else will say that its certificate is not trusted.
            tracing::warn!(%error, "this system trusts no certificates; install `ca-certificates`");
            Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    }
}
