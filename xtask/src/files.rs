//! Files and folders: how they are listed, and how those of the cache come to be there whole or not at all.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Makes the folder `target` by filling one next to it, unless an earlier run has.
pub(crate) fn once(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    let part = beside(target);
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    fill(&part)?;
    fs::rename(&part, target).with_context(|| format!("cannot create {}", target.display()))
}

/// Puts a program into the folder that others look into.
pub(crate) fn place(from: &Path, to: &Path) -> Result<()> {
    let part = beside(to);
    fs::copy(from, &part).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(fs::rename(part, to)?)
}

/// Makes `folder` and takes its lock, for as long as the file is open. `waiting` is called if another process has it.
pub(crate) fn lock(folder: &Path, waiting: impl FnOnce()) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| {
        format!("cannot create {}; set GADGETD_CACHE to another folder", folder.display())
    })?;
    let lock = File::create(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        waiting();
        lock.lock()?;
    }
    Ok(lock)
}

/// All files below a folder, in order, by their path from there.
pub(crate) fn below(folder: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                all.push(path.strip_prefix(folder)?.to_str().context("a name is not UTF-8")?.to_owned());
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

fn beside(target: &Path) -> PathBuf {
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_in_order() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub"))?;
        for name in ["x", "sub/b", "a"] {
            fs::write(at(name), "")?;
        }
        assert_eq!(below(folder.path())?, ["a", "sub/b", "x"]);
        Ok(())
    }
}
