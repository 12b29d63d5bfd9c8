//! TLS to Redis: the right certificates, the wrong ones, one's own.

use std::{fs, path::PathBuf};

use greenroom::backend::cluster::{Cluster, Options, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::store::{append, joined, options, run};
use crate::support::servers::{Redis, RedisSetup, port};

/// An authority, and a certificate of it for servers and for nodes.
struct Certificates {
    dir: TempDir,
}

impl Certificates {
    fn new(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, name);
        fs::write(dir.path().join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::from_params(&ca, &key);
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, format!("{name} leaf"));
        fs::write(dir.path().join("cert.pem"), params.signed_by(&own, &issuer).unwrap().pem()).unwrap();
        fs::write(dir.path().join("key.pem"), own.serialize_pem()).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// A server with them, which asks for a certificate of its clients or does not.
    fn setup(&self, port: u16, asks: &str) -> RedisSetup {
        RedisSetup::redis()
            .set("tls-port", &port.to_string())
            .set("tls-ca-cert-file", &self.text("ca.pem"))
            .set("tls-cert-file", &self.text("cert.pem"))
            .set("tls-key-file", &self.text("key.pem"))
            .set("tls-auth-clients", asks)
    }
}

fn with(port: u16, tls: Tls) -> Options {
    Options { redis_tls: tls, ..options(&format!("rediss://127.0.0.1:{port}")) }
}

fn refusal(options: &Options) -> String {
    Cluster::open(options.clone()).err().expect("it is refused").to_string()
}

#[test]
fn the_authority_that_is_named_is_the_one_that_counts() {
    let (ours, other) = (Certificates::new("ours"), Certificates::new("other"));
    let port = port::free();
    let _redis = Redis::start(ours.setup(port, "no"));
    let right = with(port, Tls { ca: Some(ours.file("ca.pem")), ..Tls::default() });
    run(async { append(&*joined(&right).await, 0, 1).await.unwrap() });
    assert!(Cluster::examine(right).is_ok());
    let said = refusal(&with(port, Tls { ca: Some(other.file("ca.pem")), ..Tls::default() }));
    assert!(said.contains("UnknownIssuer"), "{said}");
    let said = refusal(&with(port, Tls { ca: Some(ours.file("none.pem")), ..Tls::default() }));
    assert!(said.contains("none.pem"), "{said}");
    let said = refusal(&with(port, Tls { ca: Some(ours.file("key.pem")), ..Tls::default() }));
    assert!(said.contains("holds no certificate"), "{said}");
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let ours = Certificates::new("ours");
    let port = port::free();
    let _redis = Redis::start(ours.setup(port, "yes"));
    let ca = Some(ours.file("ca.pem"));
    let whole = Tls { ca: ca.clone(), cert: Some(ours.file("cert.pem")), key: Some(ours.file("key.pem")) };
    run(async { append(&*joined(&with(port, whole)).await, 0, 1).await.unwrap() });
    refusal(&with(port, Tls { ca: ca.clone(), ..Tls::default() }));
    let said = refusal(&with(port, Tls { ca, cert: Some(ours.file("cert.pem")), key: None }));
    assert!(said.contains("redis_key"), "{said}");
}

#[test]
fn a_cluster_is_reached_with_tls_on_every_server() {
    let ours = Certificates::new("ours");
    let port = port::free();
    let bus = port::free().to_string();
    // One server with all slots is a cluster.
    let setup = ours.setup(port, "no").set("cluster-enabled", "yes").set("cluster-port", &bus);
    let redis = Redis::start(setup.set("tls-cluster", "yes"));
    redis.cli(&["cluster", "addslotsrange", "0", "16383"]);
    crate::support::eventually("the cluster to be ok", || {
        redis.cli(&["cluster", "info"]).contains("cluster_state:ok").then_some(())
    });
    let tls = Tls { ca: Some(ours.file("ca.pem")), ..Tls::default() };
    let options = Options { redis_tls: tls, ..options(&format!("rediss-cluster://127.0.0.1:{port}")) };
    run(async {
        let store = joined(&options).await;
        for partition in 0..16 {
            append(&store, partition, 1).await.unwrap();
        }
    });
}
