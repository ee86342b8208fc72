//! Images made of programs that Debian installs: busybox, nginx, and our own small web program.
//!
//! Packages: busybox-static, nginx-light. Nothing is fetched.

use super::{Image, ImageBuilder, Layer, elf};
use crate::{Problem, Result, Tried};
use std::path::Path;
use std::process::Command;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\n\
    tester:x:1000:1000:tester:/home/tester:/bin/sh\n\
    nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\ntester:x:1000:\nstaff:x:50:tester\nnogroup:x:65534:\n";
const NGINX_CONF: &str = "worker_processes 1;\n\
    error_log /dev/stderr warn;\n\
    pid /run/nginx.pid;\n\
    events { worker_connections 128; }\n\
    http {\n\
    \x20   types { text/html html; }\n\
    \x20   default_type application/octet-stream;\n\
    \x20   access_log /dev/stdout;\n\
    \x20   server { listen 80; root /usr/share/nginx/html; location / { index index.html; } }\n\
    }\n";

/// Debian's static busybox with a link for every applet, a few users, and a shell as its command.
pub fn busybox() -> Result<Image> {
    busybox_builder()?.cmd(&["sh"]).build()
}

/// The smallest image that stays: busybox's `sleep` until it is killed. Peers need one as pause image.
pub fn pause() -> Result<Image> {
    busybox_builder()?.entrypoint(&["/bin/busybox", "sleep", "2147483647"]).build()
}

fn busybox_builder() -> Result<ImageBuilder> {
    let program = installed("/bin/busybox", "busybox-static")?;
    let listed = Command::new(program).arg("--list").output().tried("run busybox --list")?;
    let mut layer = base().dir("bin", 0o755).copy("bin/busybox", 0o755, program)?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox") {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(Image::builder().layer(layer).env(&[PATH]))
}

/// Debian's nginx with the libraries it needs; serves one page on port 80 and logs to its streams.
pub fn nginx() -> Result<Image> {
    let program = installed("/usr/sbin/nginx", "nginx-light")?;
    let mut system = base();
    for dir in ["usr", "usr/sbin", "usr/share", "lib", "lib64"] {
        system = system.dir(dir, 0o755);
    }
    for library in elf::libraries(program)? {
        system = system.copy(&library.display().to_string(), 0o755, &library)?;
    }
    system = system.copy("usr/sbin/nginx", 0o755, program)?;
    let mut site = Layer::new().dir("etc/nginx", 0o755).file("etc/nginx/nginx.conf", 0o644, NGINX_CONF);
    site = site.dir("usr/share/nginx", 0o755).dir("usr/share/nginx/html", 0o755);
    site = site.file("usr/share/nginx/html/index.html", 0o644, "<h1>It works.</h1>\n");
    for dir in ["var/log", "var/log/nginx", "var/lib", "var/lib/nginx", "run"] {
        site = site.dir(dir, 0o755);
    }
    Image::builder()
        .layer(system)
        .layer(site)
        .env(&[PATH])
        .entrypoint(&["/usr/sbin/nginx"])
        .cmd(&["-g", "daemon off;"])
        .ports(&["80/tcp"])
        .stop_signal("SIGQUIT")
        .build()
}

/// The web program of `examples/`, which must be linked statically: nothing else is in the image.
pub fn hello_web(program: &Path) -> Result<Image> {
    let layer = base().copy("hello-web", 0o755, program)?.dir("data", 0o755);
    Image::builder()
        .layer(layer)
        .env(&[PATH])
        .entrypoint(&["/hello-web"])
        .cmd(&["serve", "--port", "8080", "--dir", "/data"])
        .ports(&["8080/tcp"])
        .build()
}

/// The folders and users that programs expect.
fn base() -> Layer {
    let mut layer = Layer::new();
    for (dir, mode) in [("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("home", 0o755)] {
        layer = layer.dir(dir, mode);
    }
    layer = layer.dir("home/tester", 0o755).owner(1000, 1000).dir("var/tmp", 0o1777);
    layer.file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP)
}

fn installed<'a>(path: &'a str, package: &str) -> Result<&'a Path> {
    let path = Path::new(path);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Problem(format!("{} is not there: install {package} (`cargo xtask test` does)", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busybox_image_has_a_shell() {
        if !Path::new("/bin/busybox").is_file() {
            eprintln!("skipped: busybox-static is not installed");
            return;
        }
        let image = busybox().expect("an image");
        assert_eq!(image.blobs.len(), 2);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&image.blobs[1].data[..]));
        let shell = archive.entries().expect("entries").find_map(|entry| {
            let entry = entry.expect("an entry");
            let found = entry.path().expect("a path") == Path::new("bin/sh");
            found.then(|| entry.link_name().expect("a name").map(|name| name.into_owned()))
        });
        assert_eq!(shell, Some(Some("busybox".into())));
    }

    #[test]
    fn the_nginx_image_brings_its_libraries() {
        if !Path::new("/usr/sbin/nginx").is_file() {
            eprintln!("skipped: nginx-light is not installed");
            return;
        }
        let image = nginx().expect("an image");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&image.blobs[1].data[..]));
        let libc = archive.entries().expect("entries").any(|entry| {
            let path = entry.expect("an entry").path().expect("a path").into_owned();
            path.file_name().is_some_and(|name| name == "libc.so.6")
        });
        assert!(libc, "libc.so.6 is missing");
    }
}
