//! Long names, extended headers and where readers of tar disagree.

use crate::builder::{Builder, Head, record, seal};
use crate::sandbox::Sandbox;
use types::ErrorKind;

#[test]
fn long_names_come_from_gnu_and_pax_headers() {
    let long = |c: &str| vec![c.repeat(90); 5].join("/");
    let (gnu, pax, link) = (long("g"), long("p"), long("t"));
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .long(b'L', gnu.as_bytes())
        .file("short", b"1")
        .pax(b'x', &[("path", pax.as_bytes())])
        .file("short", b"2")
        .long(b'K', link.as_bytes())
        .symlink("l", "short")
        .pax(b'x', &[("linkpath", gnu.as_bytes())])
        .hardlink("h", "short")
        .long(b'L', b"agreed")
        .pax(b'x', &[("path", b"agreed")])
        .file("short", b"3")
        .end();
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!((sandbox.read(&gnu), sandbox.read(&pax)), ("1".into(), "2".into()));
    assert_eq!(sandbox.node("l").content, link.as_bytes());
    assert_eq!(sandbox.read("h"), "1");
    assert_eq!(sandbox.read("agreed"), "3");
    assert!(!sandbox.has("short"));
}

#[test]
fn the_ustar_prefix_counts_and_old_directories_end_in_a_slash() {
    let mut prefixed = Head::new(b'0', "name").block();
    prefixed[345..355].copy_from_slice(b"some/place");
    seal(&mut prefixed);
    let sandbox = Sandbox::new();
    let archive = Builder::default()
        .raw(&prefixed)
        .with(0, "old/", |h| (h.magic, h.mode) = ([0; 8], 0o711))
        .with(0, "oldfile", |h| h.magic = [0; 8])
        .end();
    sandbox.unpack(&archive).expect("unpack");
    assert!(sandbox.has("some/place/name"));
    assert_eq!(sandbox.node("old").mode, 0o40711);
    assert_eq!(sandbox.node("oldfile").mode, 0o100644);
}

#[test]
fn the_pax_size_wins_for_data_and_for_the_next_header() {
    // CVE-2025-62518: a reader that goes on behind the header's size would take `smuggled` for an entry.
    let hidden = Builder::default().file("smuggled", b"").0;
    let archive = Builder::default()
        .pax(b'x', &[("size", hidden.len().to_string().as_bytes())])
        .with(b'0', "outer", |h| h.size = 0)
        .raw(&hidden)
        .file("next", b"n")
        .end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.node("outer").content, hidden);
    assert!(!sandbox.has("smuggled") && sandbox.has("next"));

    // The other way round: the header claims more than the record.
    let archive = Builder::default()
        .pax(b'x', &[("size", b"0")])
        .with(b'0', "outer", |h| h.size = 512)
        .file("seen", b"")
        .end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.node("outer").content, b"");
    assert!(sandbox.has("seen"));
}

#[test]
fn entries_without_data_have_none_whatever_their_size_says() {
    let archive = Builder::default()
        .with(b'5', "d", |h| h.size = 512)
        .with(b'2', "l", |h| (h.size, h.link) = (4096, b"t".to_vec()))
        .file("f", b"f")
        .end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive).expect("unpack");
    assert_eq!(sandbox.read("f"), "f");
}

#[test]
fn global_headers_give_owners_and_times_until_the_next() {
    let archive = Builder::default()
        .pax(b'g', &[("comment", b"0123abcd"), ("uid", b"77"), ("mtime", b"42")])
        .file("a", b"")
        .pax(b'x', &[("uid", b"78")])
        .file("b", b"")
        .pax(b'g', &[("uid", b"79")])
        .file("c", b"")
        .end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive).expect("unpack");
    let owners = ["a", "b", "c"].map(|name| (sandbox.node(name).uid, sandbox.node(name).mtime.0));
    assert_eq!(owners, [(77, 42), (78, 42), (79, 42)]);
}

#[test]
fn large_owners_and_times_come_in_base_256_and_in_pax() {
    let mut block = Head::new(b'0', "big").block();
    block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
    block[136..148].copy_from_slice(&[0xff; 12]);
    seal(&mut block);
    let archive = Builder::default()
        .raw(&block)
        .pax(b'x', &[("gid", b"3000000000"), ("mtime", b"4102444800.5")])
        .file("pax", b"")
        .end();
    let sandbox = Sandbox::new();
    sandbox.unpack(&archive).expect("unpack");
    let (big, pax) = (sandbox.node("big"), sandbox.node("pax"));
    assert_eq!((big.uid, big.mtime), (u32::MAX - 1, (-1, 0)));
    assert_eq!((pax.gid, pax.mtime), (3_000_000_000, (4_102_444_800, 500_000_000)));
}

#[test]
fn an_archive_may_end_without_its_two_blocks_but_not_within_an_entry() {
    let whole = Builder::default().file("a", b"1").file("b", &[b'2'; 700]).0;
    for (cut, good) in
        [(whole.len(), true), (512 + 512, true), (512 + 513, false), (whole.len() - 400, false)]
    {
        let sandbox = Sandbox::new();
        assert_eq!(sandbox.unpack(&whole[..cut]).is_ok(), good, "cut at {cut}");
    }
    let pending = Builder::default().pax(b'x', &[("path", b"x")]).0;
    assert!(Sandbox::new().unpack(&pending).is_err(), "an extended header without an entry");
}

#[test]
fn what_readers_take_differently_is_refused_with_a_sentence() {
    let bad = [
        ("two extended headers", Builder::default().pax(b'x', &[]).pax(b'x', &[]).file("a", b"")),
        ("names", Builder::default().long(b'L', b"one").pax(b'x', &[("path", b"two")]).file("a", b"")),
        ("same path or size", Builder::default().pax(b'g', &[("size", b"9")]).file("a", b"")),
        ("same path or size", Builder::default().pax(b'g', &[("path", b"p")]).file("a", b"")),
        ("between", Builder::default().pax(b'x', &[]).pax(b'g', &[]).file("a", b"")),
        ("zeros", Builder::default().raw(&[0; 512]).file("a", b"")),
        ("checksum", Builder::default().raw(&[b'1'; 512])),
        ("the type \"V\"", Builder::default().with(b'V', "volume", |_| {})),
        ("the type \"M\"", Builder::default().with(b'M', "more", |_| {})),
        ("impossible user", Builder::default().pax(b'x', &[("uid", b"4294967295")]).file("a", b"")),
        ("empty name", Builder::default().file("", b"")),
        ("leads nowhere", Builder::default().symlink("l", "")),
        ("malformed", {
            let data = b"7 a=b\nx";
            Builder::default().with(b'x', "x", |h| h.size = 7).data(data).file("a", b"")
        }),
    ];
    for (what, builder) in bad {
        let error = Sandbox::new().unpack(&builder.end()).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains(what), "{what}: {error}");
    }
    assert_eq!(record("a", b"b"), b"6 a=b\n");
}
