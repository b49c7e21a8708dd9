//! What files and objects are called that documents go to.
//!
//! A name depends on the Trace and on what the document is about, and on nothing else: a document that is made
//! again after a crash gets the name that it had.

use thiserror::Error;

/// The longest name of an object, and of a file.
const NAME_MAX: usize = 253;

/// Why `spec.output` cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Of an object.
    #[error(
        "it must be name or namespace/name, of lower case letters, digits, - and . (in the name), each part \
         beginning and ending with a letter or digit"
    )]
    Resource,
    /// Of a file.
    #[error("it must be a plain file name of letters, digits, -, _ and ., beginning with a letter or digit")]
    File,
    /// Of either.
    #[error("the name would be longer than 253 characters")]
    TooLong,
}

/// Where the documents of a Trace go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The namespace that was asked for; `None` leaves it to what the document is about.
    pub namespace: Option<String>,
    base: Base,
    /// Between the parts of a name. For files it is a character that names of pods and containers do not have: two
    /// documents of one Trace never have the same file. Objects can have no such character; there the gadget keeps
    /// them apart.
    joint: &'static str,
}

/// What names are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// The pod's name.
    Pod,
    /// This, then the pod's name.
    Prefix(String),
    /// This; the pod's name follows only where there can be several.
    Given(String),
}

/// What a document is about, as far as names are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The pod's name.
    pub pod: &'a str,
    /// The container's name; `None` where the document is about the whole pod.
    pub container: Option<&'a str>,
    /// Whether the Trace names the pod, so that there is only this one.
    pub pod_given: bool,
    /// Whether the Trace can have another document about the same pod.
    pub alone: bool,
}

impl Target {
    /// The target that `spec.output` names for objects: `namespace/name`, `name`, or nothing.
    pub fn resource(output: &str) -> Result<Self, NameError> {
        if output.is_empty() {
            return Ok(Self { namespace: None, base: Base::Pod, joint: "-" });
        }
        let (namespace, name) = match output.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, output),
        };
        if !namespace.is_none_or(is_label) || !is_subdomain(name) {
            return Err(NameError::Resource);
        }
        Ok(Self { namespace: namespace.map(str::to_owned), base: Base::Given(name.to_owned()), joint: "-" })
    }

    /// The target that `spec.output` names for files: a file's name, or nothing.
    pub fn file(output: &str) -> Result<Self, NameError> {
        if output.is_empty() {
            return Ok(Self { namespace: None, base: Base::Pod, joint: "_" });
        }
        let name = output.strip_suffix(".json").unwrap_or(output);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) || !name.bytes().all(plain) {
            return Err(NameError::File);
        }
        Ok(Self { namespace: None, base: Base::Given(name.to_owned()), joint: "_" })
    }

    /// The same target; where `spec.output` gave no name, names begin with `prefix`.
    #[must_use]
    pub fn with_prefix(self, prefix: Option<&str>) -> Self {
        match (&self.base, prefix) {
            (Base::Pod, Some(prefix)) => Self { base: Base::Prefix(prefix.to_owned()), ..self },
            _ => self,
        }
    }

    /// The name of one document.
    ///
    /// ```
    /// use gadgetd_kube::names::{Subject, Target};
    ///
    /// let target = Target::resource("shop/profile").unwrap();
    /// let one = Subject { pod: "cart-0", container: Some("app"), pod_given: true, alone: true };
    /// assert_eq!(target.name(&one).unwrap(), "profile");
    /// let several = Subject { alone: false, ..one };
    /// assert_eq!(target.name(&several).unwrap(), "profile-app");
    /// ```
    pub fn name(&self, subject: &Subject<'_>) -> Result<String, NameError> {
        let (base, pod) = match &self.base {
            Base::Given(base) if subject.pod_given => (Some(base.as_str()), None),
            Base::Given(base) | Base::Prefix(base) => (Some(base.as_str()), Some(subject.pod)),
            Base::Pod => (None, Some(subject.pod)),
        };
        let container = subject.container.filter(|_| !subject.alone);
        let parts: Vec<_> = [base, pod, container].into_iter().flatten().collect();
        let name = parts.join(self.joint);
        if name.len() > NAME_MAX { Err(NameError::TooLong) } else { Ok(name) }
    }
}

/// The end of the name of a file with a document of this media type.
pub fn extension(media_type: &str) -> &'static str {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    match essence {
        "text/html" => ".html",
        _ if essence.ends_with("json") => ".json",
        _ if essence.ends_with("yaml") => ".yaml",
        _ => ".txt",
    }
}

/// Whether this can be the name of a namespace: an RFC 1123 label.
pub fn is_label(word: &str) -> bool {
    word.len() <= 63 && !word.contains('.') && is_subdomain(word)
}

/// Whether this can be the name of an object: an RFC 1123 subdomain.
pub fn is_subdomain(word: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        end(part.as_bytes().first()) && end(part.as_bytes().last()) && part.bytes().all(inner)
    };
    word.len() <= NAME_MAX && word.split('.').all(part)
}

/// Whether the name of an object can begin with this.
pub fn is_prefix(word: &str) -> bool {
    is_label(&format!("{word}x")) && word.len() < 63
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(pod_given: bool, alone: bool, container: Option<&str>) -> Subject<'_> {
        Subject { pod: "cart-0", container, pod_given, alone }
    }

    #[test]
    fn names_of_objects() {
        // spec.output, prefix, pod given, alone, container → name
        let rows = [
            ("ns/p", None, true, true, Some("app"), "p"),
            ("p", None, true, true, Some("app"), "p"),
            ("p", Some("x"), true, true, Some("app"), "p"),
            ("p", None, true, false, Some("app"), "p-app"),
            ("p", None, true, true, None, "p"),
            ("p", None, false, true, Some("app"), "p-cart-0"),
            ("p", None, false, false, Some("app"), "p-cart-0-app"),
            ("", None, true, true, Some("app"), "cart-0"),
            ("", None, false, false, Some("app"), "cart-0-app"),
            ("", Some("x"), true, true, Some("app"), "x-cart-0"),
            ("", Some("x"), false, false, Some("app"), "x-cart-0-app"),
        ];
        for (output, prefix, pod_given, alone, container, want) in rows {
            let target = Target::resource(output).unwrap().with_prefix(prefix);
            let name = target.name(&subject(pod_given, alone, container)).unwrap();
            assert_eq!(name, want, "{output:?} {prefix:?} {pod_given} {alone}");
        }
    }

    #[test]
    fn two_documents_of_one_trace_never_have_the_same_file() {
        let target = Target::file("p").unwrap();
        let a = Subject { pod: "a-b", container: Some("c"), pod_given: false, alone: false };
        let b = Subject { pod: "a", container: Some("b-c"), pod_given: false, alone: false };
        assert_ne!(target.name(&a), target.name(&b));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["/p", "ns/", "n/s/p", "NS/p", "ns/P", "ns/../p", "-p", "p-", "a b", "n.s/p", "a..b"] {
            assert_eq!(Target::resource(bad), Err(NameError::Resource), "{bad}");
        }
        for bad in ["../p", "a/b", ".p", "", "..", "a\0b", "-p", ".json"] {
            let found = Target::file(bad);
            assert!(bad.is_empty() == found.is_ok(), "{bad}: {found:?}");
        }
        assert_eq!(Target::file("p.json"), Target::file("p"));
        let long = Target::resource(&"a".repeat(250)).unwrap();
        assert_eq!(long.name(&subject(false, true, None)), Err(NameError::TooLong));
        for (prefix, fits) in
            [("x", true), ("x-", true), ("X", false), ("", true), ("-x", false), ("x.", false)]
        {
            assert_eq!(is_prefix(prefix), fits, "{prefix}");
        }
    }

    #[test]
    fn a_file_ends_as_its_document_does() {
        assert_eq!(extension("application/vnd.oci.seccomp+json"), ".json");
        assert_eq!(extension("application/yaml; charset=utf-8"), ".yaml");
        assert_eq!(extension("text/html"), ".html");
        assert_eq!(extension("text/plain"), ".txt");
    }
}
