//! TLS to the database, by rustls: TLS 1.2 or 1.3, its certificate checked against the system's roots, or
//! against a file's alone.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::{TlsConnector, client};

use crate::store::StoreError;

/// Makes connections that are checked by one set of roots.
#[derive(Clone)]
pub(crate) struct MakeTls(TlsConnector);

impl MakeTls {
    /// With the certificates of a file as the only roots, or with the system's.
    pub(crate) fn new(roots: Option<&Path>) -> Result<Self, StoreError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused("prepare TLS"))?;
        let config = match roots {
            Some(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
            None => builder
                .with_platform_verifier()
                .map_err(refused("read the system's certificates"))?
                .with_no_client_auth(),
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

fn refused(operation: &'static str) -> impl FnOnce(rustls::Error) -> StoreError {
    move |source| StoreError::Database { operation, source: source.into() }
}

fn read_roots(path: &Path) -> Result<RootCertStore, StoreError> {
    let unread = |source: io::Error| StoreError::Io {
        operation: "read certificates (sslrootcert) from",
        path: path.to_owned(),
        source,
    };
    let found =
        CertificateDer::pem_file_iter(path).map_err(|error| unread(io::Error::other(error)))?;
    let mut roots = RootCertStore::empty();
    for certificate in found {
        let certificate = certificate.map_err(|error| unread(io::Error::other(error)))?;
        roots.add(certificate).map_err(|error| unread(io::Error::other(error)))?;
    }
    if roots.is_empty() {
        return Err(unread(io::Error::other("no certificate is in it")));
    }
    Ok(roots)
}

impl<S> MakeTlsConnect<S> for MakeTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Connect, io::Error> {
        // Asked for before it is known whether there will be TLS: a Unix socket has no name.
        Ok(Connect { connector: self.0.clone(), host: host.to_owned() })
    }
}

/// Makes one connection.
pub(crate) struct Connect {
    connector: TlsConnector,
    host: String,
}

impl<S> TlsConnect<S> for Connect
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host).map_err(io::Error::other)?;
            self.connector.connect(name, stream).await.map(|stream| Stream(Box::new(stream)))
        })
    }
}

/// A connection.
pub(crate) struct Stream<S>(Box<client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server whose certificate is for `db.example.net`; what it is trusted by is in that file.
    fn server(roots: &Path) -> TlsAcceptor {
        let issued = rcgen::generate_simple_self_signed(["db.example.net".to_owned()]).unwrap();
        std::fs::write(roots, issued.cert.pem()).unwrap();
        let key = PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    async fn connect(
        server: &TlsAcceptor,
        roots: &Path,
        host: &str,
    ) -> io::Result<Stream<DuplexStream>> {
        let (here, there) = duplex(1 << 16);
        let accepted = server.accept(there);
        tokio::spawn(async move {
            let mut stream = accepted.await?;
            stream.write_all(b"hello").await?;
            stream.flush().await
        });
        let mut tls = MakeTls::new(Some(roots)).unwrap();
        let connect = MakeTlsConnect::<DuplexStream>::make_tls_connect(&mut tls, host)?;
        connect.connect(here).await
    }

    #[tokio::test]
    async fn certificate_and_name_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let [own, other] = ["own.pem", "other.pem"].map(|name| directory.path().join(name));
        let (server, _) = (self::server(&own), self::server(&other));
        let mut stream = connect(&server, &own, "db.example.net").await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        let check = async |roots: &Path, host: &str, expected: &str| {
            let error = connect(&server, roots, host).await.err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&own, "db.example.org", "not valid for name").await;
        check(&other, "db.example.net", "invalid peer certificate").await;
        check(&own, "", "invalid").await;
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("empty.pem");
        std::fs::write(&path, "nothing").unwrap();
        for path in [&path, &directory.path().join("absent.pem")] {
            let error = MakeTls::new(Some(path)).err().unwrap().to_string();
            assert!(error.contains("sslrootcert") && error.contains(".pem"), "{error}");
        }
    }
}
