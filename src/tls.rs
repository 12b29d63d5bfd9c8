//! The one implementation of cryptography that every TLS connection of a process uses: AWS-LC.

/// Makes it the one that is used where none is named. Once is enough; of no effect where a program has
/// chosen one before.
pub fn install() {
    // Refused when there is one: then that is the one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
