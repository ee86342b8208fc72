//! The init container: writes the page that the server then serves.

use std::path::Path;

/// Writes `index.html` with the pod's name in it.
pub fn write(dir: &Path) -> Result<(), String> {
    let pod = std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .unwrap_or_else(|_| "a pod".to_owned());
    let path = dir.join("index.html");
    std::fs::write(&path, page(pod.trim()))
        .map_err(|said| format!("cannot write {}: {said}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn page(pod: &str) -> String {
    let pod = pod.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<title>Corten</title>\n<h1>Hello from {pod}</h1>\n<p>Written by an init container, served by a second one, counted by a third: <a href=\"/ticks.txt\">ticks</a>.</p>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_the_page() {
        assert!(page("a<b&c").contains("Hello from a&lt;b&amp;c"));
    }
}
