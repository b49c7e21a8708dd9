//! The version in the manifests, from the workspace's.

use anyhow::{Result, ensure};

use super::{Generated, read};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a version follows in them, and what it is quoted with there.
const BEFORE: [(&str, &str); 2] =
    [("app.kubernetes.io/version: ", "\""), ("image: ghcr.io/gadgetd/gadgetd:", "")];

const FILES: [&str; 1] = ["deploy/base/daemonset.yaml"];

pub(super) fn files() -> Result<Vec<Generated>> {
    let file = |path: &str| Ok(Generated::new(path, with_version(&read(path)?, VERSION)?));
    FILES.into_iter().map(file).collect()
}

fn with_version(text: &str, version: &str) -> Result<String> {
    let mut found = false;
    let mut all = String::new();
    for line in text.lines() {
        let before =
            BEFORE.iter().find_map(|(before, quote)| Some((line.split_once(before)?.0, before, quote)));
        found |= before.is_some();
        match before {
            Some((start, before, quote)) => all.extend([start, before, quote, version, quote, "\n"]),
            None => all.extend([line, "\n"]),
        }
    }
    ensure!(found, "it names no version");
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_images_get_the_version() -> Result<()> {
        let text = "  app.kubernetes.io/version: \"0.1.0\"\n  image: ghcr.io/gadgetd/gadgetd:0.1.0\n  other: 0.1.0\n";
        assert_eq!(
            with_version(text, "2.0.0-rc.1")?,
            "  app.kubernetes.io/version: \"2.0.0-rc.1\"\n  image: ghcr.io/gadgetd/gadgetd:2.0.0-rc.1\n  other: 0.1.0\n"
        );
        assert!(with_version("nothing\n", "1").is_err());
        Ok(())
    }
}
