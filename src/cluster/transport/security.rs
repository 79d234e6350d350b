//! How a stream is protected: mutual TLS, or nothing, on loopback or when asked for by name.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

use super::TransportError;

/// Where certificates and keys are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authority that signs the nodes' certificates; no other authority is trusted.
    pub authority: PathBuf,
    /// This node's certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// This node's private key.
    pub key: PathBuf,
    /// The name every node's certificate is for.
    pub server_name: String,
}

/// How streams are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// Plain TCP; refused outside loopback unless `insecure`.
    Plain {
        /// Allows it outside loopback: whoever sees the network reads and changes everything.
        insecure: bool,
    },
    /// TLS 1.3; both sides show a certificate of the authority.
    Tls(TlsFiles),
}

/// A stream of bytes, whatever protects it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A protected stream, and bytes that only its two ends know; empty for plain TCP.
pub(crate) type Protected = (Box<dyn Io>, Vec<u8>);

/// What the settings became.
#[derive(Clone)]
pub(crate) enum Guard {
    Plain { insecure: bool },
    Tls { acceptor: TlsAcceptor, connector: TlsConnector, server_name: ServerName<'static> },
}

impl Guard {
    /// Reads the certificates.
    pub(crate) fn new(security: &Security) -> Result<Self, TransportError> {
        let files = match security {
            Security::Plain { insecure } => return Ok(Self::Plain { insecure: *insecure }),
            Security::Tls(files) => files,
        };
        let server_name = ServerName::try_from(files.server_name.clone())
            .map_err(|_| TransportError::ServerName(files.server_name.clone()))?;
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(authority(&files.authority)?);
        Ok(Self::Tls {
            acceptor: TlsAcceptor::from(Arc::new(server(files, &provider, roots.clone())?)),
            connector: TlsConnector::from(Arc::new(client(files, &provider, roots)?)),
            server_name,
        })
    }

    /// Refuses plain TCP to or at an address outside loopback.
    pub(crate) fn allow(&self, address: SocketAddr) -> Result<(), TransportError> {
        match self {
            Self::Plain { insecure: false } if !address.ip().to_canonical().is_loopback() => {
                Err(TransportError::Plain(address))
            }
            Self::Plain { .. } | Self::Tls { .. } => Ok(()),
        }
    }

    /// Protects a socket that was accepted.
    pub(crate) async fn accept(&self, socket: TcpStream) -> Result<Protected, TransportError> {
        match self {
            Self::Plain { .. } => Ok((Box::new(socket), Vec::new())),
            Self::Tls { acceptor, .. } => {
                let stream = acceptor.accept(socket).await.map_err(TransportError::Tls)?;
                let binding = stream.get_ref().1.export_keying_material(vec![0; 32], EXPORTER, None);
                Ok((Box::new(stream), binding.map_err(refused)?))
            }
        }
    }

    /// Protects a socket that was dialled.
    pub(crate) async fn connect(&self, socket: TcpStream) -> Result<Protected, TransportError> {
        match self {
            Self::Plain { .. } => Ok((Box::new(socket), Vec::new())),
            Self::Tls { connector, server_name, .. } => {
                let stream =
                    connector.connect(server_name.clone(), socket).await.map_err(TransportError::Tls)?;
                let binding = stream.get_ref().1.export_keying_material(vec![0; 32], EXPORTER, None);
                Ok((Box::new(stream), binding.map_err(refused)?))
            }
        }
    }
}

/// Label under which both ends derive the same secret from their TLS session (RFC 8446, section 7.5).
const EXPORTER: &[u8] = b"EXPERIMENTAL stanchion cluster";

fn refused(error: tokio_rustls::rustls::Error) -> TransportError {
    TransportError::Tls(std::io::Error::other(error))
}

fn server(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<ServerConfig, TransportError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let verifier = verifier.build().map_err(|error| unusable(&files.authority, error))?;
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(refused)?.with_client_cert_verifier(verifier);
    builder
        .with_single_cert(chain(&files.certificate)?, key(&files.key)?)
        .map_err(|error| unusable(&files.certificate, error))
}

fn client(
    files: &TlsFiles,
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<ClientConfig, TransportError> {
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
    let builder = builder.map_err(refused)?.with_root_certificates(roots);
    builder
        .with_client_auth_cert(chain(&files.certificate)?, key(&files.key)?)
        .map_err(|error| unusable(&files.certificate, error))
}

fn authority(path: &Path) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error))?;
    let chain: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| unusable(path, error))?;
    if chain.is_empty() { Err(unusable(path, "it holds no certificate")) } else { Ok(chain) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TransportError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, cause: impl ToString) -> TransportError {
    TransportError::Certificate { path: path.display().to_string(), cause: cause.to_string() }
}
