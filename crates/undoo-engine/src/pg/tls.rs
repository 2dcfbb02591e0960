//! TLS on the way to PostgreSQL: libpq's `sslmode` and `sslrootcert`, with libpq's meaning.
//!
//! Authorities travel as PEM text and never as a path: an order is carried out in a container that does
//! not have the administrator's files. Nothing here weakens a mode: only `allow` and `prefer`, which
//! promise nothing, ever speak plain text.

use std::{fs, path::Path, str::FromStr, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio_postgres::config::SslMode as Handshake;
use tokio_postgres_rustls::MakeRustlsConnect;
use undoo_core::{Kind, Problem, Result};

/// libpq's `sslmode` (PostgreSQL's documentation, "SSL Mode Descriptions").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Plain, or encrypted where the server insists.
    Allow,
    /// Encrypted where the server can, else plain: the default of libpq and of Odoo.
    #[default]
    Prefer,
    /// Encrypted; whoever the server is, unless authorities are given: then as `verify-ca`.
    Require,
    /// Encrypted, with a certificate of a known authority.
    VerifyCa,
    /// That, and made out for the host that was asked for.
    VerifyFull,
}

impl SslMode {
    /// As libpq writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(invalid(
                    format!("sslmode \"{text}\" is none of PostgreSQL's"),
                    "write disable, allow, prefer, require, verify-ca or verify-full",
                ));
            }
        })
    }
}

/// How sessions with a server are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// See [`SslMode`].
    pub mode: SslMode,
    /// Certificates of the authorities to trust, as PEM; without them the public ones and the system's.
    pub authorities: Option<String>,
}

impl Tls {
    /// `sslmode` and the content of `sslrootcert`.
    ///
    /// # Errors
    /// `Invalid` for a mode that libpq does not know, and for authorities that hold no certificate.
    pub fn new(mode: &str, authorities: Option<String>) -> Result<Self> {
        let tls = Self { mode: mode.parse()?, authorities };
        if let Some(pem) = &tls.authorities
            && certificates(pem)?.is_empty()
        {
            return Err(invalid(
                "the file of authorities (sslrootcert) holds no certificate".into(),
                "give the PEM file of the authority that signed the server's certificate",
            ));
        }
        Ok(tls)
    }

    /// As [`Tls::new`], with the path of `sslrootcert` on this machine; `system` is libpq's word for the
    /// authorities that everybody trusts.
    ///
    /// # Errors
    /// As [`Tls::new`]; `Missing` when the file cannot be read.
    pub fn from_parameters(mode: Option<&str>, root_certificates: Option<&str>) -> Result<Self> {
        let (mode, path) = match (mode, root_certificates) {
            // libpq takes nothing weaker together with it, and this is its default then.
            (None, Some("system")) => ("verify-full", None),
            (mode, path) => (mode.unwrap_or("prefer"), path.filter(|path| *path != "system")),
        };
        let read = |path: &str| {
            fs::read_to_string(Path::new(path)).map_err(|error| {
                Problem::new(
                    Kind::Missing,
                    "database_authorities",
                    format!("the file of authorities {path} (sslrootcert) cannot be read: {error}"),
                    "check the path and its rights",
                )
                .caused_by(error)
            })
        };
        Self::new(mode, path.map(read).transpose()?)
    }

    /// The handshakes to try, in order; a later one only after a refusal that it may answer.
    pub(super) fn handshakes(&self, socket: bool) -> &'static [Handshake] {
        // libpq too speaks plain on a socket of this machine, whatever the mode.
        match self.mode {
            _ if socket => &[Handshake::Disable],
            SslMode::Disable => &[Handshake::Disable],
            SslMode::Allow => &[Handshake::Disable, Handshake::Require],
            SslMode::Prefer => &[Handshake::Prefer, Handshake::Disable],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Handshake::Require],
        }
    }

    /// What makes the encrypted sessions.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new(self, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| {
        invalid(
            format!("the file of authorities (sslrootcert) cannot be read: {error}"),
            "give the PEM file of the authority that signed the server's certificate",
        )
    })
}

fn invalid(message: String, remedy: &str) -> Problem {
    Problem::new(Kind::Invalid, "database_sslmode", message, remedy)
}

fn setup(error: &(dyn std::error::Error + 'static)) -> Problem {
    Problem::new(
        Kind::Internal,
        "database_tls_setup",
        format!("TLS could not be set up: {error}"),
        "please report this",
    )
}

/// Looks at the server's certificate as closely as the mode asks for.
#[derive(Debug)]
struct Verifier {
    /// `None` takes any certificate.
    chain: Option<Arc<WebPkiServerVerifier>>,
    name_counts: bool,
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let given = tls.authorities.as_deref().map(certificates).transpose()?;
        let verifies = match tls.mode {
            SslMode::VerifyCa | SslMode::VerifyFull => true,
            SslMode::Require => given.is_some(),
            SslMode::Disable | SslMode::Allow | SslMode::Prefer => false,
        };
        let authorities = given.unwrap_or_default();
        let chain = if verifies {
            let roots = Arc::new(roots(&authorities));
            let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
            Some(built.map_err(|error| setup(&error))?)
        } else {
            None
        };
        let name_counts = tls.mode == SslMode::VerifyFull;
        Ok(Self { chain, name_counts, authorities, provider: Arc::clone(provider) })
    }

    /// libpq takes a server's own certificate as its authority, which the `openssl req -x509` of
    /// PostgreSQL's documentation makes: it calls itself an authority, and those may not serve otherwise.
    fn is_given_itself(&self, certificate: &CertificateDer<'_>, error: &CertificateError) -> bool {
        matches!(error, CertificateError::Other(other) if other.to_string() == "CaUsedAsEndEntity")
            && self.authorities.iter().any(|given| given.as_ref() == certificate.as_ref())
    }
}

/// The given authorities; without any the public ones and the system's. A mover runs in a PostgreSQL
/// image, which has none of its own.
fn roots(given: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    if given.is_empty() {
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        roots.add_parsable_certificates(given.iter().cloned());
    }
    roots
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError as Wrong;
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when the chain has been found to hold.
            Err(rustls::Error::InvalidCertificate(
                Wrong::NotValidForName | Wrong::NotValidForNameContext { .. },
            )) if !self.name_counts => Ok(ServerCertVerified::assertion()),
            Err(rustls::Error::InvalidCertificate(error)) if self.is_given_itself(end_entity, &error) => {
                if self.name_counts {
                    let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
                    rustls::client::verify_server_name(&parsed, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What TLS said, where a session failed for it.
fn cause(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(current) = source {
        let inner = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref());
        if let Some(found) = current.downcast_ref().or(inner) {
            return Some(found);
        }
        source = current.source();
    }
    None
}

/// Whether a session failed before anything but encryption was talked about. The library does not tell
/// kinds of errors apart otherwise.
pub(super) fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    cause(error).is_some() || error.to_string() == "error performing TLS handshake"
}

/// The problem behind a failed handshake with the server at `place`.
pub(super) fn problem(place: &str, error: tokio_postgres::Error) -> Problem {
    use CertificateError as Wrong;
    let (code, message, remedy) = match cause(&error) {
        Some(rustls::Error::InvalidCertificate(Wrong::UnknownIssuer)) => (
            "database_tls_authority",
            format!("the certificate of {place} is signed by no authority that is trusted here"),
            "give the authority's certificate as sslrootcert (in Docker: ~/.postgresql/root.crt of Odoo's \
             user, or PGSSLROOTCERT)",
        ),
        Some(rustls::Error::InvalidCertificate(
            wrong @ (Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }),
        )) => (
            "database_tls_name",
            format!("the certificate of {place} is made out for another host: {wrong}"),
            "name the host as the certificate does (in its subjectAltName), or use sslmode=verify-ca",
        ),
        Some(rustls::Error::InvalidCertificate(wrong)) => (
            "database_tls_certificate",
            format!("the certificate of {place} does not hold: {wrong}"),
            "renew the server's certificate, or see with `openssl x509 -text` what is wrong with it",
        ),
        Some(other) => (
            "database_tls",
            format!("no encrypted session with {place} came about: {other}"),
            "see the server's log for what it says about it",
        ),
        None => (
            "database_tls_missing",
            format!("{place} offers no encryption, and sslmode asks for it"),
            "turn it on there (ssl = on), or use sslmode=prefer",
        ),
    };
    Problem::new(Kind::Denied, code, message, remedy).caused_by(error)
}
