//! Parameters, as people give them on a command line: `NAME=VALUE`, or `NAME=@FILE` for what stands in a file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use thiserror::Error;

/// The most bytes that a file may have which is the value of a parameter. On a cluster it becomes a part of an object.
pub const FILE_MAX: u64 = 256 << 10;

/// Why a parameter cannot be taken.
#[derive(Debug, Error)]
pub enum ParameterError {
    /// It is something else.
    #[error("a parameter is given as name=value, or as name=@file for what stands in a file")]
    Form,
    /// The file of its value cannot be read.
    #[error("cannot read {}, the value of {name}: {reason} (a value that begins with @ is given as {name}=@@…)", path.display())]
    File {
        /// The parameter.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Splits a parameter, and reads its file where it has one. A value that begins with an `@` is given with two of them.
///
/// ```
/// use gadgetd_core::parameter;
///
/// assert_eq!(parameter::parse("a=b=c").unwrap(), ("a".into(), "b=c".into()));
/// assert_eq!(parameter::parse("group=@@timer").unwrap(), ("group".into(), "@timer".into()));
/// assert!(parameter::parse("against=@no-such-file").is_err());
/// ```
pub fn parse(text: &str) -> Result<(String, String), ParameterError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => (name.to_owned(), value),
        _ => return Err(ParameterError::Form),
    };
    let value = match value.strip_prefix('@') {
        None => value.to_owned(),
        Some(literal) if literal.starts_with('@') => literal.to_owned(),
        Some(path) => {
            let path = PathBuf::from(path);
            match read(&path) {
                Ok(value) => value,
                Err(reason) => return Err(ParameterError::File { name, path, reason: reason.to_string() }),
            }
        }
    };
    Ok((name, value))
}

fn read(path: &PathBuf) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than allowed, and no more than that: it may be a device without an end.
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it has more than {} KiB", FILE_MAX >> 10)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_be_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            format!("against=@{}", path.display())
        };
        let good = parse(&file("good", b"{\n}\n")).unwrap();
        let errors = [
            (file("binary", b"\xff"), "it is no text in UTF-8"),
            ("against=@/dev/zero".to_owned(), "it has more than 256 KiB"),
            (format!("against=@{}", folder.path().join("none").display()), "No such file"),
            ("against".to_owned(), "given as name=value"),
            ("=@x".to_owned(), "given as name=value"),
        ];
        for (text, want) in errors {
            let error = parse(&text).expect_err(&text).to_string();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(good, ("against".to_owned(), "{\n}\n".to_owned()));
    }
}
