//! A policy that asks for signatures takes those of its keys, for this content and this name, and no others.

use crate::{run, text};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use std::path::Path;
use trust::{Policy, Signature};
use types::{Digest, ErrorKind, Reference, Result};

fn digest(byte: &str) -> Digest {
    Digest::parse(&format!("sha256:{}", byte.repeat(32))).expect("digest")
}

fn payload(name: &str, digest: &Digest) -> Vec<u8> {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":{{"creator":"test"}}}}"#
    )
    .into_bytes()
}

/// A policy with one requirement, for all images.
fn policy(requirement: &str) -> Policy {
    let json = format!(r#"{{"default":[{requirement}]}}"#);
    Policy::parse(Path::new("/policy.json"), json.as_bytes()).expect("policy")
}

fn check(policy: &Policy, image: &str, digests: &[Digest], signatures: &[Signature]) -> Result<()> {
    let image = Reference::parse(image).expect("reference");
    let rule = policy.rule(&image);
    assert!(rule.needs_signatures());
    rule.check(&image, digests, signatures)
}

/// What signs a text.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A public key, and what signs with its other half.
struct Signer {
    public: String,
    sign: Sign,
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

fn signers() -> Vec<(&'static str, Signer)> {
    let random = SystemRandom::new();
    let mut all: Vec<(&'static str, Signer)> = Vec::new();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("key");
    let public =
        aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key());
    let public = pem(public.expect("DER").as_ref());
    let chance = random.clone();
    let sign = Box::new(move |text: &[u8]| key.sign(&chance, text).expect("sign").as_ref().to_vec());
    all.push(("P-256", Signer { public, sign }));
    let key = Ed25519KeyPair::generate().expect("key");
    let public =
        aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key());
    let public = pem(public.expect("DER").as_ref());
    all.push(("Ed25519", Signer { public, sign: Box::new(move |text| key.sign(text).as_ref().to_vec()) }));
    let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("key");
    let public =
        aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key());
    let public = pem(public.expect("DER").as_ref());
    let sign = Box::new(move |text: &[u8]| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).expect("sign");
        signature
    });
    all.push(("RSA", Signer { public, sign }));
    all
}

#[test]
fn every_kind_of_key_vouches_for_its_own_signatures_only() {
    let folder = tempfile::tempdir().expect("temp dir");
    let payload = payload("h.io/a:1", &digest("aa"));
    let signers = signers();
    for (name, signer) in &signers {
        let path = folder.path().join(name);
        std::fs::write(&path, &signer.public).expect("write");
        let policy = policy(&format!(r#"{{"type":"sigstoreSigned","keyPath":{path:?}}}"#));
        for (other, maker) in &signers {
            let signature = Signature { payload: payload.clone(), signature: (maker.sign)(&payload) };
            let result = check(&policy, "h.io/a:1", &[digest("bb"), digest("aa")], &[signature]);
            assert_eq!(result.is_ok(), name == other, "{name} {other}: {result:?}");
        }
    }
}

#[test]
fn an_image_without_a_signature_with_one_for_other_content_or_another_name_is_refused_with_the_rule() {
    let folder = tempfile::tempdir().expect("temp dir");
    let signer = &signers()[0].1;
    let path = folder.path().join("key.pub");
    std::fs::write(&path, &signer.public).expect("write");
    let policy = policy(&format!(r#"{{"type":"sigstoreSigned","keyPath":{path:?}}}"#));
    let signed = |name: &str, digest: &Digest| {
        let payload = payload(name, digest);
        Signature { signature: (signer.sign)(&payload), payload }
    };
    let good = signed("h.io/a:1", &digest("aa"));
    check(&policy, "h.io/a:1", &[digest("aa")], std::slice::from_ref(&good)).expect("accepted");
    let mut changed = good.clone();
    changed.payload[20] ^= 1;
    for (signatures, word) in [
        (vec![], "no signature"),
        (vec![changed], "not made by a key"),
        (vec![signed("h.io/a:1", &digest("cc"))], "other content"),
        (vec![signed("h.io/a:2", &digest("aa"))], "h.io/a:2"),
        (vec![signed("h.io/b:1", &digest("aa"))], "h.io/b:1"),
    ] {
        let error = check(&policy, "h.io/a:1", &[digest("aa")], &signatures).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{word}");
        let text = error.chain();
        assert!(
            text.contains(word) && text.contains("/policy.json") && text.contains("sigstoreSigned"),
            "{text}"
        );
    }
    // One good signature among bad ones is enough.
    check(&policy, "h.io/a:1", &[digest("aa")], &[signed("h.io/b:1", &digest("aa")), good])
        .expect("accepted");
}

#[test]
fn a_key_that_is_changed_on_the_disk_counts_at_once_and_a_missing_one_refuses() {
    let folder = tempfile::tempdir().expect("temp dir");
    let signers = signers();
    let path = folder.path().join("key.pub");
    let policy = policy(&format!(r#"{{"type":"sigstoreSigned","keyPath":{path:?}}}"#));
    let payload = payload("h.io/a:1", &digest("aa"));
    let signature = Signature { signature: (signers[0].1.sign)(&payload), payload };
    let now = || check(&policy, "h.io/a:1", &[digest("aa")], std::slice::from_ref(&signature));
    assert_eq!(now().expect_err("missing").kind(), ErrorKind::FailedPrecondition);
    std::fs::write(&path, &signers[1].1.public).expect("write");
    assert_eq!(now().expect_err("other key").kind(), ErrorKind::PermissionDenied);
    std::fs::write(&path, &signers[0].1.public).expect("write");
    now().expect("accepted");
}

#[test]
fn keys_that_openssl_makes_are_read_from_the_policy_itself() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().expect("temp dir");
    let at = |name: &str| folder.path().join(name);
    let payload = payload("h.io/a", &digest("aa"));
    std::fs::write(at("text"), &payload).expect("write");
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        let (key, public, signature) = (at("key"), at("public"), at("signature"));
        if !run("openssl", &["ecparam", "-name", curve, "-genkey", "-noout", "-out", text(&key)]) {
            return;
        }
        run("openssl", &["ec", "-in", text(&key), "-pubout", "-out", text(&public)]);
        run(
            "openssl",
            &["dgst", "-sha256", "-sign", text(&key), "-out", text(&signature), text(&at("text"))],
        );
        let data = base64::engine::general_purpose::STANDARD.encode(std::fs::read(&public).expect("read"));
        let policy = policy(&format!(
            r#"{{"type":"sigstoreSigned","keyData":"{data}","signedIdentity":{{"type":"matchRepository"}}}}"#
        ));
        let signature = std::fs::read(&signature).expect("read");
        let signature = Signature { payload: payload.clone(), signature };
        check(&policy, "h.io/a:7", &[digest("aa")], &[signature]).expect(curve);
    }
}
