//! TLS 1.3 by rustls and ring: who we are, and how a server is verified.
//!
//! A server is verified by authorities, by a pin (the SHA-256 of its certificate; then neither name nor chain counts),
//! or not at all. An authority's own certificate may be the server's, as `openssl req -x509` makes them: webpki refuses
//! those, so that they are compared byte by byte, and name and validity are checked all the same.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as ring_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

pub struct Authority {
    pub certificate: CertificateDer<'static>,
    /// Seconds since 1970.
    pub valid_from: u64,
    pub valid_until: u64,
}

pub enum Trust {
    Authorities(Vec<Authority>),
    Pin(Vec<u8>),
    Anybody,
}

pub fn server_config(certificate_pem: &[u8], key_pem: &[u8], alpn: &str) -> Result<rustls::ServerConfig, String> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| error.to_string())?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![alpn.into()];
    config.send_tls13_tickets = 0; // Nobody resumes: connections live for hours.
    Ok(config)
}

pub fn client_config(trust: Trust, alpn: &str) -> Result<rustls::ClientConfig, String> {
    let verifier = Verifier::new(trust)?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.into()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// A secret that is the same after a restart with the same private key.
pub fn lasting_secret(key_pem: &[u8], purpose: &str) -> [u8; 32] {
    let mut text = purpose.as_bytes().to_vec();
    text.extend_from_slice(key_pem);
    digest(&SHA256, &text).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// AES-128 first: rustls prefers AES-256, which costs about a third more for nothing that matters here.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring_provider::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// rustls shows people what is for developers, so that is in words.
struct NotPinned;

impl fmt::Debug for NotPinned {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("the server's certificate is not the pinned one")
    }
}

impl fmt::Display for NotPinned {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, text)
    }
}

impl std::error::Error for NotPinned {}

#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Check {
    Chain(Arc<WebPkiServerVerifier>, Vec<(CertificateDer<'static>, u64, u64)>),
    Pin(Vec<u8>),
    Nothing,
}

impl Verifier {
    fn new(trust: Trust) -> Result<Self, String> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let check = match trust {
            Trust::Anybody => Check::Nothing,
            Trust::Pin(pin) => Check::Pin(pin),
            Trust::Authorities(authorities) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(authorities.iter().map(|one| one.certificate.clone()));
                let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| error.to_string())?;
                let themselves = authorities.into_iter().map(|one| (one.certificate, one.valid_from, one.valid_until));
                Check::Chain(chain, themselves.collect())
            }
        };
        Ok(Self { check, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => Ok(ServerCertVerified::assertion()),
            Check::Pin(pin) if digest(&SHA256, end_entity).as_ref() == pin => Ok(ServerCertVerified::assertion()),
            // With the alert certificate_unknown: one that says what it is about.
            Check::Pin(_) => Err(CertificateError::Other(OtherError(Arc::new(NotPinned))).into()),
            Check::Chain(chain, themselves) => {
                let own = themselves.iter().find(|(certificate, ..)| certificate == end_entity);
                let Some((_, valid_from, valid_until)) = own else {
                    return chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
                };
                rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                within(now, *valid_from, *valid_until)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("QUIC has no TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn within(now: UnixTime, valid_from: u64, valid_until: u64) -> Result<(), Error> {
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    if now < at(valid_from) {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > at(valid_until) {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_secret_is_of_one_key_and_one_purpose() {
        let secret = lasting_secret(b"key", "purpose");
        assert_eq!(secret, lasting_secret(b"key", "purpose"));
        assert_ne!(secret, lasting_secret(b"key", "another purpose"));
        assert_ne!(secret, lasting_secret(b"another key", "purpose"));
    }

    #[test]
    fn the_quickest_cipher_is_preferred_and_none_is_lost() {
        let suites: Vec<_> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites[0], rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), ring_provider::default_provider().cipher_suites.len());
    }

    #[test]
    fn validity_has_two_ends_that_belong_to_it() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(within(at(9), 10, 20), Err(CertificateError::NotValidYet.into()));
        assert_eq!(within(at(10), 10, 20), Ok(()));
        assert_eq!(within(at(20), 10, 20), Ok(()));
        assert_eq!(within(at(21), 10, 20), Err(CertificateError::Expired.into()));
    }

    #[test]
    fn files_that_hold_nothing_are_refused() {
        assert!(server_config(b"", b"", "x").is_err());
        assert!(server_config(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"", "x").is_err());
        assert!(client_config(Trust::Authorities(Vec::new()), "x").is_err());
    }
}
