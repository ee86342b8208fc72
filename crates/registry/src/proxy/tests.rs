//! Tests of [`super`]: which requests go through which proxy.

use super::*;
use proptest::prelude::*;

fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, String> {
    Proxies::read(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
}

fn of(proxies: &Proxies, url: &str) -> Option<String> {
    proxies.of(&url.parse().expect("url")).map(|proxy| proxy.to_string())
}

#[test]
fn every_variable_counts_for_its_scheme_and_upper_case_first() {
    let all = proxies(&[
        ("HTTP_PROXY", "http://p1:3128"),
        ("http_proxy", "http://other:1"),
        ("https_proxy", "p2.example"),
        ("ALL_PROXY", "socks5://p3"),
    ])
    .expect("proxies");
    assert_eq!(of(&all, "http://r.example/v2/").as_deref(), Some("http://p1:3128"));
    assert_eq!(of(&all, "https://r.example/v2/").as_deref(), Some("http://p2.example:80"));
    let fallback = proxies(&[("all_proxy", "socks5://p3"), ("HTTP_PROXY", "")]).expect("proxies");
    assert_eq!(of(&fallback, "http://r.example/").as_deref(), Some("socks5://p3:1080"));
    assert_eq!(of(&fallback, "https://r.example/").as_deref(), Some("socks5://p3:1080"));
    assert_eq!(of(&proxies(&[]).expect("none"), "https://r.example/"), None);
}

#[test]
fn no_proxy_means_what_it_means_to_go() {
    let list = "a.example, .b.example,*.c.example,10.0.0.0/8,192.168.1.1,d.example:5000,fd00::/8,[::2]:443,1.2.3.4:80";
    let all = proxies(&[("HTTP_PROXY", "p"), ("HTTPS_PROXY", "p"), ("NO_PROXY", list)]).expect("proxies");
    for direct in [
        "https://a.example/",
        "https://A.EXAMPLE/",
        "https://x.a.example/",
        "https://x.b.example/",
        "https://x.c.example/",
        "http://10.1.2.3/",
        "https://192.168.1.1:5000/",
        "https://d.example:5000/",
        "https://[fd12::1]/",
        "https://[::2]/",
        "http://1.2.3.4/",
        // Never, whatever the list says.
        "http://localhost:5000/",
        "https://127.0.0.9/",
        "https://[::1]:443/",
    ] {
        assert_eq!(of(&all, direct), None, "{direct}");
    }
    for proxied in [
        "https://xa.example/",
        "https://b.example/",
        "https://c.example/",
        "http://11.1.2.3/",
        "https://192.168.1.2/",
        "https://d.example/",
        "https://[fe80::1]/",
        "https://[::2]:444/",
        "https://1.2.3.4/",
        "https://localhost.example/",
    ] {
        assert!(of(&all, proxied).is_some(), "{proxied}");
    }
    let never = proxies(&[("HTTPS_PROXY", "p"), ("no_proxy", "x,*")]).expect("proxies");
    assert_eq!(of(&never, "https://r.example/"), None);
}

#[test]
fn a_proxys_credentials_are_shown_nowhere() {
    let all =
        proxies(&[("HTTPS_PROXY", "http://ann:s%3Acret@p:8080"), ("HTTP_PROXY", "http://ann:s%3Acret@p")])
            .expect("proxies");
    let proxy = all.of(&"https://r.example/".parse().expect("url")).expect("proxy");
    assert_eq!(proxy.user, Some(("ann".into(), "s:cret".into())));
    let header = all.authorization(&"http://r.example/".parse().expect("url")).expect("header");
    assert_eq!(header.to_str().expect("text"), Credential::basic("ann", "s:cret"));
    let text = format!("{all:?} {proxy} {header:?}");
    assert!(!text.contains("cret") && !text.contains("ann"), "{text}");
    for bad in ["ftp://ann:s3cret@p", "http://ann:s3cret@p:x", "http://ann:s3cret%zz@p", "http://ann:s3cret@"]
    {
        let why = proxies(&[("HTTPS_PROXY", bad)]).expect_err(bad);
        assert!(why.contains("HTTPS_PROXY") && !why.contains("s3cret"), "{why}");
    }
}

proptest! {
    #[test]
    fn no_variable_panics(proxy in "\\PC{0,60}", except in "[a-z0-9.:/*, \\[\\]]{0,60}") {
        if let Ok(all) = proxies(&[("HTTP_PROXY", &proxy), ("NO_PROXY", &except)]) {
            let _ = of(&all, "http://r.example:5000/v2/");
        }
    }
}
