//! A hub with a CA of its own.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_core::{Sink, SinkError};
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, SupportedProtocolVersion, pki_types::PrivateKeyDer, version};
use sinks::{HttpConfig, HttpSink, http::HttpConfigError};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    fixture,
    hub::{self, Hub},
};

struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    fn write_pem(&self, directory: &Path) -> PathBuf {
        let path = directory.join("ca.pem");
        fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// A server's configuration with a certificate for that name.
    fn server(&self, name: &str, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (socket, from) = self.tcp.accept().await.unwrap();
            // a client that doesn't trust us goes away in the handshake
            if let Ok(stream) = self.acceptor.accept(socket).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn start(config: ServerConfig) -> (Hub, u16) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let hub = Hub::default();
    hub.serve(TlsListener { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) });
    (hub, port)
}

fn sink(port: u16, ca_file: &Path) -> HttpSink {
    let url = format!("https://127.0.0.1:{port}");
    let config = HttpConfig { ca_file: Some(ca_file.to_owned()), ..HttpConfig::new(url) };
    HttpSink::new(config, hub::identity(), hub::clock()).unwrap()
}

async fn check_untrusted(mut sink: HttpSink, hub: &Hub, expected: &str) {
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Transient { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains(expected), "expected {expected:?} in {reason:?}");
    assert!(hub.seen().is_empty(), "nothing is said to a hub that isn't trusted");
}

#[tokio::test]
async fn its_own_ca_is_trusted_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(), Ca::new());
    let (hub, port) = start(ca.server("127.0.0.1", &version::TLS13)).await;
    let other_file = other.write_pem(directory.path());
    check_untrusted(sink(port, &other_file), &hub, "invalid peer certificate").await;
    let ca_file = ca.write_pem(directory.path());
    assert_eq!(sink(port, &ca_file).send(&fixture::ticks(1..=3)).await.unwrap(), 3);
    assert_eq!(hub.held(fixture::STREAM), [1, 2, 3]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (hub, port) = start(ca.server("127.0.0.2", &version::TLS13)).await;
    let ca_file = ca.write_pem(directory.path());
    check_untrusted(sink(port, &ca_file), &hub, "not valid for name").await;
}

#[tokio::test]
async fn nothing_older_than_tls_1_3_is_spoken() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let (hub, port) = start(ca.server("127.0.0.1", &version::TLS12)).await;
    let ca_file = ca.write_pem(directory.path());
    check_untrusted(sink(port, &ca_file), &hub, "ProtocolVersion").await;
}

#[test]
fn a_ca_file_that_is_none_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let check = |expected: &str| {
        let config = HttpConfig { ca_file: Some(path.clone()), ..HttpConfig::new("https://hub") };
        let error: HttpConfigError =
            HttpSink::new(config, hub::identity(), hub::clock()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("read ca_file");
    fs::write(&path, "").unwrap();
    check("holds no certificate");
    fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    check("certificate");
}
