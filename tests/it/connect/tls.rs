//! Upstreams of https.

use std::{net::SocketAddr, sync::Arc};

use stanchion::{
    connect::http::{ConnectError, Http, HttpError, HttpRequest, RegisterError, UpstreamOptions},
    error::{Coded, Family},
    task::TaskScope,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject},
    },
};

use crate::kit;

/// Answers one request on each connection; its address, and its certificate in PEM.
async fn server(name: &str) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    kit::task(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust it goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.unwrap() > 0 {}
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure").await.unwrap();
        }
    });
    (address, made.cert.pem())
}

#[tokio::test]
async fn https_is_spoken_to_whom_the_roots_trust_and_to_nobody_else() {
    let root = TaskScope::root("test");
    let http = Http::new(&root);
    let ((address, pem), (_, other)) = (server("localhost").await, server("localhost").await);
    let options = |host: &str, ca_pem: &str| UpstreamOptions {
        ca_pem: Some(ca_pem.to_owned()),
        ..UpstreamOptions::of(format!("https://{host}:{}", address.port()))
    };
    let ask = async |name: &str, options: UpstreamOptions| {
        http.register(name, &options).unwrap().call(HttpRequest::get("x")).await
    };
    let trusted = ask("trusted", options("localhost", &pem)).await.unwrap();
    assert_eq!(trusted.body, "secure");
    for (name, options) in
        [("another-root", options("localhost", &other)), ("another-name", options("127.0.0.1", &pem))]
    {
        let error = ask(name, options).await.unwrap_err();
        assert!(matches!(error, HttpError::Connect { error: ConnectError::Tls(_), .. }), "{name}: {error}");
        assert_eq!(error.family(), Family::Unavailable);
    }
    let plain = UpstreamOptions::of(format!("http://{address}"));
    assert!(ask("plain", plain).await.is_err());
    let refused = http.register("no-pem", &options("localhost", "hush")).unwrap_err();
    assert!(matches!(&refused, RegisterError::Options { error, .. } if error.faults[0].field == "ca_pem"));
    assert!(!refused.to_string().contains("hush"), "{refused}");
}
