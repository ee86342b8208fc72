//! Three layers of one image with all that writers of archives put into them, and that containerd takes as we do.

use crate::builder::{Builder, Head, seal};

fn owned(head: &mut Head, mode: u32, uid: u32, gid: u32) {
    (head.mode, head.uid, head.gid) = (mode, uid, gid);
}

/// Every kind of thing, in every spelling that writers have for it.
pub fn first() -> Vec<u8> {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = ["a name that is quite long"; 12].join("/");
    let mut large = Head::new(b'0', "base 256").block();
    large[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xfe]);
    large[136..148].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
    seal(&mut large);
    let mut prefixed = Head::new(b'0', "name").block();
    prefixed[345..350].copy_from_slice(b"a/pre");
    seal(&mut prefixed);
    Builder::default()
        .with(b'5', "./", |h| owned(h, 0o755, 0, 0))
        .with(b'5', "etc/", |h| owned(h, 0o2750, 1, 2))
        .with(b'5', "a", |h| owned(h, 0o755, 0, 0))
        .dir("a/pre", 0o700)
        .raw(&prefixed)
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.text", b"v"),
                ("SCHILY.xattr.user.bytes", b"\0\xff\n="),
                ("mtime", b"12.345678901"),
            ],
        )
        .with(b'0', "etc/passwd", |h| {
            owned(h, 0o4711, 3, 4);
            h.size = 5;
        })
        .data(b"root:")
        .pax(b'x', &[("SCHILY.xattr.security.capability", &capability)])
        .with(b'0', "etc/ping", |h| {
            owned(h, 0o755, 7, 7);
            h.size = 4;
        })
        .data(b"icmp")
        // As the header of the file itself: containerd gives the file what the link's header says (archive/tar.go,
        // createTarFile), and takes its capabilities away; GNU tar and we let a link say nothing.
        .file("etc/hosts", b"127.0.0.1")
        .hardlink("etc/hosts6", "etc/hosts")
        .hardlink("./etc/hosts4", "/etc/hosts6")
        .symlink("etc/link", "../nowhere at all")
        .symlink("abs", "/etc")
        .file("abs/through a link", b"1")
        .with(b'6', "etc/pipe", |h| h.mode = 0o620)
        .with(b'3', "etc/null", |h| {
            owned(h, 0o666, 5, 0);
            h.device = (1, 3);
        })
        .with(b'4', "etc/disk", |h| {
            owned(h, 0o660, 0, 6);
            h.device = (259, 300);
        })
        // No time before 1970: containerd makes 1970 of it (archive/time.go), GNU tar and we keep it.
        .pax(b'x', &[("path", long.as_bytes()), ("uid", b"3000000"), ("mtime", b"7.5")])
        .file("x", b"deep")
        .long(b'L', format!("{long}.gnu").as_bytes())
        .file("x", b"deeper")
        .long(b'K', long.as_bytes())
        .symlink("to deep", "x")
        .raw(&large)
        .with(0, "old/", |h| (h.magic, h.mode) = ([0; 8], 0o711))
        .with(0, "old/file", |h| h.magic = [0; 8])
        .file("replaced by a directory", b"")
        .dir("replaced by a file", 0o755)
        .file("replaced by a file/in it", b"")
        .file("kept", b"kept")
        .dir("hidden", 0o755)
        .file("hidden/in it", b"")
        .dir("opaque", 0o750)
        .file("opaque/below", b"")
        .file("gone", b"")
        .with(b'5', "implied", |h| owned(h, 0o1770, 8, 9))
        .file("implied/below", b"")
        .with(b'5', "tmp", |h| h.mode = 0o1777)
        // containerd makes the folder that such a header's own name has, so it has none here.
        .with(b'g', "pax_global_header", |h| h.size = 19)
        .data(b"19 comment=nothing\n")
        .pax(b'x', &[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .dir("trusted", 0o755)
        .end()
}

/// Whiteouts, opaque directories, kinds that change, and what only the layer below has.
pub fn second() -> Vec<u8> {
    Builder::default()
        .file(".wh.gone", b"")
        // Without a new directory of that name: containerd lets the lower one's content show through it.
        .file(".wh.hidden", b"")
        .with(b'5', "opaque", |h| owned(h, 0o701, 4, 4))
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .dir("replaced by a directory", 0o500)
        .file("replaced by a directory/in it", b"")
        .file("replaced by a file", b"a file now")
        .file("implied/new", b"")
        .file("etc/.wh.passwd", b"")
        .with(b'5', "etc", |h| owned(h, 0o751, 0, 2))
        .file("twice", b"1")
        .with(b'0', "twice", |h| h.mode = 0o600)
        .file("new/made/on the way", b"")
        .symlink("lib", "usr/lib")
        .dir("usr", 0o755)
        .dir("usr/lib", 0o755)
        .file("lib/x.so", b"x")
        .end()
}

/// What was taken away is back, and more is gone.
pub fn third() -> Vec<u8> {
    Builder::default()
        .file("gone", b"back again")
        .file(".wh.lib", b"")
        .file("usr/lib/.wh.x.so", b"")
        .dir("opaque/sub", 0o755)
        .file("implied/.wh.below", b"")
        .end()
}
