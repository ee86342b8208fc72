//! Which client certificate is shown to a server that asks for one: the first that an authority which the server
//! names has issued, as Go's TLS chooses (crypto/tls, `SupportsCertificate`).

use crate::transport::certificates;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The certificates of one host, with their keys.
#[derive(Debug)]
pub(crate) struct Identities(Vec<Arc<CertifiedKey>>);

impl Identities {
    /// Reads PEM files.
    pub(crate) fn read(pairs: &[(Vec<u8>, Vec<u8>)], provider: &CryptoProvider) -> Result<Self, String> {
        let one = |(certificate, key): &(Vec<u8>, Vec<u8>)| {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| format!("the client's key: {e}"))?;
            let pair = CertifiedKey::from_der(chain, key, provider);
            pair.map(Arc::new).map_err(|e| format!("the client's certificate: {e}"))
        };
        pairs.iter().map(one).collect::<Result<_, String>>().map(Identities)
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &Arc<CertifiedKey>| {
            let known = authorities.is_empty()
                || pair.cert.iter().any(|c| issuer(c).is_some_and(|issuer| authorities.contains(&issuer)));
            known && pair.key.choose_scheme(schemes).is_some()
        };
        self.0.iter().find(|pair| fits(pair)).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The issuer's name in a certificate, as its DER bytes (RFC 5280 section 4.1): the fourth or third part of
/// what is signed, for the version may be absent.
fn issuer(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = part(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = part(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = part(rest)?.2;
    }
    // Serial number and algorithm.
    for _ in 0..2 {
        rest = part(rest)?.2;
    }
    let (tag, _, after) = part(rest)?;
    (tag == SEQUENCE).then(|| &rest[..rest.len() - after.len()])
}

/// Tag and content of the first DER element, and what comes after it.
fn part(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7f => (usize::from(*short), rest),
        long @ 0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().fold(0, |sum, b| sum << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}
