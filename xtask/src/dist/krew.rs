//! The manifest for krew, kubectl's package manager.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use gadgetd_artifacts::target::Target;

use super::archive;

/// Where a release is downloaded from.
const DOWNLOADS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/releases/download");

/// The head in `deploy/krew` with the version, and a platform for each archive of `kubectl-gadget`: its target and SHA-256.
pub(super) fn manifest(head: &str, version: &str, archives: &[(Target, String)]) -> Result<String> {
    ensure!(head.contains("{version}") && head.ends_with("platforms:\n"), "it is no head of a manifest");
    let mut text = head.replace("{version}", version);
    for (target, sha256) in archives {
        let (os, arch) = (target.os(), target.architecture());
        let archive = archive::name("kubectl-gadget", version, *target);
        write!(
            text,
            "  - selector:\n      matchLabels:\n        os: {os}\n        arch: {arch}\n    \
             uri: {DOWNLOADS}/v{version}/{archive}\n    sha256: {sha256}\n    bin: kubectl-gadget{suffix}\n",
            suffix = target.suffix(),
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_archive_is_a_platform() -> Result<()> {
        let archives = [(Target::LinuxArm64, "aa".to_owned()), (Target::WindowsAmd64, "bb".to_owned())];
        let text = manifest("spec:\n  version: v{version}\n  platforms:\n", "1.2.3", &archives)?;
        assert!(text.starts_with("spec:\n  version: v1.2.3\n"), "{text}");
        assert_eq!(text.matches("selector:").count(), 2, "{text}");
        assert!(text.contains("        os: linux\n        arch: arm64\n"), "{text}");
        assert!(
            text.contains(
                "/v1.2.3/kubectl-gadget-1.2.3-linux-arm64.tar.gz\n    sha256: aa\n    bin: kubectl-gadget\n"
            ),
            "{text}"
        );
        assert!(text.contains("    sha256: bb\n    bin: kubectl-gadget.exe\n"), "{text}");
        assert!(manifest("nothing", "1", &[]).is_err());
        Ok(())
    }
}
