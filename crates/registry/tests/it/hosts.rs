//! Which hosts are asked, by `hosts.toml`, certificate files and `registries.conf`, as they are at each pull.

use crate::server::{Reply, Server};
use crate::{alice, open_with, timeouts, transport};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use registry::{RegistriesConf, Session, Transport};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use std::path::Path;
use std::sync::Arc;
use types::{ErrorKind, Reference};

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

async fn plain(mark: &'static str) -> Server {
    Server::start(move |_| Reply::new(200, mark)).await
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    std::fs::write(path, text).expect("write");
}

async fn answer(session: types::Result<Session>) -> Result<String, String> {
    let session = session.map_err(|error| error.chain())?;
    let fetched = session.manifest("1").await.map_err(|error| types::error::chain(&error))?;
    Ok(String::from_utf8_lossy(&fetched.bytes).into_owned())
}

#[tokio::test]
async fn a_changed_hosts_toml_counts_at_the_next_pull() {
    let (one, two) = (plain("one").await, plain("two").await);
    let dir = tempfile::tempdir().expect("temp dir");
    let name = reference("r.example/app:1");
    for (server, mark) in [(&one, "one"), (&two, "two"), (&one, "one")] {
        write(dir.path(), "r.example/hosts.toml", &format!("server = \"http://{}\"", server.addr));
        assert_eq!(answer(open_with(dir.path(), &name, None)).await.as_deref(), Ok(mark));
    }
    write(dir.path(), "r.example/hosts.toml", "server = ");
    let error = answer(open_with(dir.path(), &name, None)).await.expect_err("broken");
    assert!(error.contains("r.example/hosts.toml"), "{error}");
}

#[tokio::test]
async fn the_first_of_several_folders_that_knows_the_registry_counts() {
    let (one, two) = (plain("one").await, plain("two").await);
    let (a, b) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    write(b.path(), "r.example/hosts.toml", &format!("server = \"http://{}\"", two.addr));
    let both = format!("{}:{}", a.path().display(), b.path().display());
    let open = || open_with(Path::new(&both), &reference("r.example/app:1"), None);
    assert_eq!(answer(open()).await.as_deref(), Ok("two"));
    write(a.path(), "_default/hosts.toml", &format!("[host.\"http://{}\"]", one.addr));
    assert_eq!(answer(open()).await.as_deref(), Ok("one"));
}

/// An authority: its certificate, and how it signs.
pub fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority")
}

/// A certificate with its key, as two PEM texts.
fn issued(by: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, name);
    (params.signed_by(&key, by).expect("certificate"), key)
}

/// A server of `ca` that takes clients of `clients` only.
pub fn tls(
    ca: &CertifiedIssuer<'static, KeyPair>,
    clients: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> Arc<rustls::ServerConfig> {
    let (certificate, key) = issued(ca, "server");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.der().clone()).expect("authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("verifier"))
        }
    };
    Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).expect("config"))
}

#[tokio::test]
async fn of_several_client_certificates_the_one_is_shown_that_the_server_knows() {
    let (ca, own, other) = (authority("servers"), authority("clients"), authority("others"));
    let server = Server::start_tls(tls(&ca, Some(&own)), |_| Reply::new(200, "in")).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let (wanted, key) = issued(&own, "wanted");
    let (wrong, wrong_key) = issued(&other, "wrong");
    write(dir.path(), "r.example/ca.pem", &ca.pem());
    write(dir.path(), "r.example/wrong.pem", &wrong.pem());
    write(dir.path(), "r.example/wrong.key", &wrong_key.serialize_pem());
    write(dir.path(), "r.example/good.pem", &wanted.pem());
    write(dir.path(), "r.example/good.key", &key.serialize_pem());
    write(dir.path(), "r.example/both.pem", &format!("{}{}", wanted.pem(), key.serialize_pem()));
    write(dir.path(), "r.example/wrong-both.pem", &format!("{}{}", wrong.pem(), wrong_key.serialize_pem()));
    let name = reference("r.example/app:1");
    for (client, fits) in [
        ("[[\"wrong.pem\", \"wrong.key\"], [\"good.pem\", \"good.key\"]]", true),
        ("[\"wrong-both.pem\", \"both.pem\"]", true),
        ("\"both.pem\"", true),
        ("[\"wrong-both.pem\"]", false),
        ("[]", false),
    ] {
        let text = format!("server = \"https://{}\"\nca = \"ca.pem\"\nclient = {client}", server.addr);
        write(dir.path(), "r.example/hosts.toml", &text);
        let got = answer(open_with(dir.path(), &name, None)).await;
        assert_eq!(got.is_ok(), fits, "{client}: {got:?}");
    }
    assert!(server.seen().iter().all(|s| s.client.as_deref() == Some(wanted.der().as_ref())));
    // Docker's layout, without a hosts.toml: the folder of the registry itself.
    let docker = tempfile::tempdir().expect("temp dir");
    let folder = format!("{}", server.addr);
    write(docker.path(), &format!("{folder}/ca.crt"), &ca.pem());
    write(docker.path(), &format!("{folder}/a-wrong.cert"), &wrong.pem());
    write(docker.path(), &format!("{folder}/a-wrong.key"), &wrong_key.serialize_pem());
    write(docker.path(), &format!("{folder}/b.cert"), &wanted.pem());
    write(docker.path(), &format!("{folder}/b.key"), &key.serialize_pem());
    assert_eq!(answer(open_with(docker.path(), &server.name("app:1"), None)).await.as_deref(), Ok("in"));
    std::fs::remove_file(docker.path().join(format!("{folder}/b.cert"))).expect("remove");
    answer(open_with(docker.path(), &server.name("app:1"), None))
        .await
        .expect_err("only the wrong one is left");
}

#[tokio::test]
async fn a_plain_url_with_settings_for_tls_is_tried_by_tls_first() {
    let (ca, stranger) = (authority("known"), authority("unknown"));
    let secure = Server::start_tls(tls(&ca, None), |_| Reply::new(200, "by tls")).await;
    let strange = Server::start_tls(tls(&stranger, None), |_| Reply::new(200, "by tls")).await;
    let open = plain("plain").await;
    let dir = tempfile::tempdir().expect("temp dir");
    write(dir.path(), "r.example/ca.pem", &ca.pem());
    for (server, wanted) in [(&secure, Some("by tls")), (&open, Some("plain")), (&strange, None)] {
        let text = format!("[host.\"http://{}\"]\nca = \"ca.pem\"", server.addr);
        write(dir.path(), "r.example/hosts.toml", &format!("server = \"http://127.0.0.1:1\"\n{text}"));
        let got = answer(open_with(dir.path(), &reference("r.example/app:1"), None)).await;
        // A certificate that is not trusted is no reason to speak without TLS.
        assert_eq!(got.as_deref().ok(), wanted, "{got:?}");
    }
    assert_eq!(strange.seen().len(), 0);
}

#[tokio::test]
async fn on_this_machine_a_registry_may_speak_either_protocol() {
    let ca = authority("own");
    let secure = Server::start_tls(tls(&ca, None), |_| Reply::new(200, "by tls")).await;
    let open = plain("plain").await;
    let session = |server: &Server| Session::open(transport(), None, &server.name("app:1"), None);
    assert_eq!(answer(session(&open)).await.as_deref(), Ok("plain"));
    assert_eq!(answer(session(&secure)).await.as_deref(), Ok("by tls"));
    // Not so elsewhere: 0.0.0.0 is this machine by another name.
    let other = reference(&format!("0.0.0.0:{}/app:1", open.addr.port()));
    answer(Session::open(transport(), None, &other, None)).await.expect_err("no TLS there");
}

fn with_conf(dir: &Path) -> Arc<Transport> {
    let conf = Arc::new(RegistriesConf::new(dir.join("registries.conf")));
    Arc::new(Transport::new(timeouts()).proxies(Default::default()).registries_conf(Some(conf)))
}

#[tokio::test]
async fn registries_conf_moves_mirrors_and_blocks_and_is_read_at_each_pull() {
    let (mirror, home) =
        (Server::start(|_| Reply::error(404, "MANIFEST_UNKNOWN", "")).await, plain("home").await);
    let dir = tempfile::tempdir().expect("temp dir");
    write(
        dir.path(),
        "registries.conf",
        &format!(
            "[[registry]]\nprefix = \"r.example/team\"\nlocation = \"{}/moved\"\n[[registry.mirror]]\nlocation = \"{}/m\"",
            home.addr, mirror.addr
        ),
    );
    let transport = with_conf(dir.path());
    let open = |auth| Session::open(transport.clone(), None, &reference("r.example/team/app:1"), auth);
    assert_eq!(answer(open(None)).await.as_deref(), Ok("home"));
    assert!(mirror.seen()[0].path.starts_with("/v2/m/app/manifests/1"), "{:?}", mirror.seen());
    assert!(home.seen()[0].path.starts_with("/v2/moved/app/manifests/1"), "{:?}", home.seen());
    write(
        dir.path(),
        "registries.conf.d/50-block.conf",
        "[[registry]]\nlocation = \"r.example\"\nblocked = true",
    );
    assert_eq!(answer(open(None)).await.as_deref(), Ok("home"), "the longer prefix counts");
    write(
        dir.path(),
        "registries.conf.d/60-block.conf",
        "[[registry]]\nprefix = \"r.example/team\"\nlocation = \"r.example/team\"\nblocked = true",
    );
    let error = open(None).err().expect("blocked");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.message().contains("60-block.conf") && error.message().contains("is blocked"), "{error}");
    // Blocking is for pushes, too.
    Session::open_push(transport, None, &reference("r.example/team/app:1"), None).err().expect("blocked");
}

#[tokio::test]
async fn credentials_of_a_moved_image_go_to_the_host_they_are_for() {
    let asking = |_: &crate::server::Seen| Reply::basic();
    let (mirror, home) = (Server::start(asking).await, Server::start(asking).await);
    let dir = tempfile::tempdir().expect("temp dir");
    write(
        dir.path(),
        "registries.conf",
        &format!(
            "[[registry]]\nprefix = \"r.example\"\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"",
            home.addr, mirror.addr
        ),
    );
    let transport = with_conf(dir.path());
    let open = |auth: &registry::Auth| {
        Session::open(transport.clone(), None, &reference("r.example/app:1"), Some(auth))
    };
    // They are the image's registry's, which neither of the two is.
    answer(open(&alice())).await.expect_err("nobody may have them");
    let given = |server: &Server| server.seen().iter().any(|s| s.header("authorization").is_some());
    assert!(!given(&mirror) && !given(&home));
    // Marked as the mirror's they go there alone.
    let marked = registry::Auth { server_address: Some(mirror.addr.to_string()), ..alice() };
    answer(open(&marked)).await.expect_err("not accepted");
    assert!(given(&mirror) && !given(&home));
}

#[tokio::test]
async fn insecure_takes_any_certificate_and_plain_http() {
    let ca = authority("unknown");
    let secure = Server::start_tls(tls(&ca, None), |_| Reply::new(200, "by tls")).await;
    let open = plain("plain").await;
    let dir = tempfile::tempdir().expect("temp dir");
    let transport = with_conf(dir.path());
    // By its name 0.0.0.0 is not this machine, so nothing is taken for granted.
    for (server, wanted) in [(&secure, "by tls"), (&open, "plain")] {
        let host = format!("0.0.0.0:{}", server.addr.port());
        for insecure in [true, false] {
            let text = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = {insecure}");
            write(dir.path(), "registries.conf", &text);
            let session = Session::open(transport.clone(), None, &reference(&format!("{host}/app:1")), None);
            assert_eq!(
                answer(session).await.ok().as_deref(),
                insecure.then_some(wanted),
                "{wanted} {insecure}"
            );
        }
    }
}
