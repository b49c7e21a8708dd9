//! The checks of a call that a module makes: names that lead where they say, and objects that are what they say.

use gadgetd_core::kube::Resource;
use serde_json::Value;

use crate::text::size;

/// The largest object that a module may write, in bytes: what etcd takes.
const OBJECT_MAX_BYTES: usize = 3 << 19;
/// The longest label selector, in bytes.
const SELECTOR_MAX_BYTES: usize = 4096;
/// The longest name of an object or of an API group, in bytes.
const NAME_MAX_BYTES: usize = 253;
/// The longest RFC 1123 label, in bytes.
const LABEL_MAX_BYTES: usize = 63;
/// The fields of an object's metadata that a module may write. The rest is the API server's or the host's; finalizers and owner
/// references, for one, have consequences for objects of others.
const WRITABLE_METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

/// An object that a module may write, and its name.
pub(crate) fn object(
    text: &str,
    kind: &Resource,
    namespace: Option<&str>,
) -> Result<(Value, String), String> {
    if text.len() > OBJECT_MAX_BYTES {
        return Err(format!("the object has {} bytes, more than {}", text.len(), size(OBJECT_MAX_BYTES)));
    }
    let object: Value = serde_json::from_str(text).map_err(|e| format!("the object is no JSON: {e}"))?;
    let api_version = kind.api_version();
    for (field, want) in [("apiVersion", api_version.as_str()), ("kind", kind.kind.as_str())] {
        if object[field] != want {
            return Err(format!("the object's {field} is {}, and not {want:?}", object[field]));
        }
    }
    let metadata = object["metadata"].as_object().ok_or("the object has no metadata")?;
    if let Some(other) = metadata.keys().find(|key| !WRITABLE_METADATA.contains(&key.as_str())) {
        return Err(format!(
            "metadata.{other} is not for a module to write; {} are",
            WRITABLE_METADATA.join(", ")
        ));
    }
    let given = metadata.get("namespace").filter(|value| !value.is_null());
    if given.is_some_and(|given| given.as_str() != namespace) {
        return Err(format!("metadata.namespace is not the namespace of the call, {namespace:?}"));
    }
    let name = metadata.get("name").and_then(Value::as_str).ok_or("the object has no name")?;
    check_name(name)?;
    let name = name.to_owned();
    Ok((object, name))
}

pub(crate) fn check_resource(group: &str, plural: &str) -> Result<(), String> {
    if !is_group(group) {
        return Err(format!("{group:?} cannot be an API group"));
    }
    // Nor is it a subresource, which would be a permission of its own.
    if is_label(plural) { Ok(()) } else { Err(format!("{plural:?} cannot be the plural of a kind")) }
}

/// The names of a kind become a path: each may be one segment of it and no more.
pub(crate) fn check_kind(kind: &Resource, namespace: Option<&str>) -> Result<(), String> {
    check_resource(&kind.group, &kind.plural)?;
    if !is_label(&kind.version) {
        return Err(format!("{:?} cannot be a version", kind.version));
    }
    match namespace {
        Some(_) if !kind.namespaced => Err(format!("{} have no namespace", kind.plural)),
        Some(namespace) if !is_label(namespace) => Err(format!("{namespace:?} cannot be a namespace")),
        _ => Ok(()),
    }
}

/// The same for a call about one object.
pub(crate) fn check_place(kind: &Resource, namespace: Option<&str>) -> Result<(), String> {
    check_kind(kind, namespace)?;
    if kind.namespaced && namespace.is_none() {
        return Err(format!("{} live in namespaces, and none is named", kind.plural));
    }
    Ok(())
}

/// A name that kinds accept, and that is one segment of a path.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
    let dots = name.bytes().all(|b| b == b'.');
    if (1..=NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(fits) && !dots {
        Ok(())
    } else {
        Err(format!("{name:?} cannot be the name of an object"))
    }
}

pub(crate) fn check_selector(labels: &str) -> Result<(), String> {
    if labels.len() <= SELECTOR_MAX_BYTES && !labels.chars().any(char::is_control) {
        Ok(())
    } else {
        Err("that cannot be a selection of labels".to_owned())
    }
}

/// Whether this can be an API group: empty, or labels joined by dots.
pub(crate) fn is_group(text: &str) -> bool {
    text.is_empty() || text.len() <= NAME_MAX_BYTES && text.split('.').all(is_label)
}

/// An RFC 1123 label.
pub(crate) fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=LABEL_MAX_BYTES).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    type Change = fn(&mut Value);

    fn profiles(namespaced: bool) -> Resource {
        Resource {
            group: "g.io".into(),
            version: "v1".into(),
            plural: "profiles".into(),
            kind: "Profile".into(),
            namespaced,
        }
    }

    #[test]
    fn what_names_an_object_cannot_lead_elsewhere() {
        for good in ["p", "a.b-c", "system:node", "Upper_1", "a..b"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        let long = "x".repeat(254);
        for bad in ["", ".", "..", "a/b", "../b", "a%2fb", "a?b", "a#b", "a b", "a\0", "ä", &long] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let with = |change: fn(&mut Resource)| {
            let mut kind = profiles(true);
            change(&mut kind);
            check_kind(&kind, Some("shop")).expect_err(&format!("{kind:?}"))
        };
        let found = [
            with(|k| k.plural = "profiles/status".into()),
            with(|k| k.plural = String::new()),
            with(|k| k.group = "g.io/v1/namespaces/x".into()),
            with(|k| k.group = "..".into()),
            with(|k| k.version = "v1/namespaces/bank".into()),
            with(|k| k.version = String::new()),
            with(|k| k.namespaced = false),
            check_kind(&profiles(true), Some("shop/x")).unwrap_err(),
            check_place(&profiles(true), None).unwrap_err(),
        ];
        let want = [
            "\"profiles/status\" cannot be the plural of a kind",
            "\"\" cannot be the plural of a kind",
            "\"g.io/v1/namespaces/x\" cannot be an API group",
            "\"..\" cannot be an API group",
            "\"v1/namespaces/bank\" cannot be a version",
            "\"\" cannot be a version",
            "profiles have no namespace",
            "\"shop/x\" cannot be a namespace",
            "profiles live in namespaces, and none is named",
        ];
        assert_eq!(found, want);
        assert_eq!(check_kind(&Resource { group: String::new(), ..profiles(true) }, None), Ok(()));
    }

    #[test]
    fn an_object_must_be_what_the_call_says() {
        let written = |change: fn(&mut Value)| {
            let mut value = json!({
                "apiVersion": "g.io/v1",
                "kind": "Profile",
                "metadata": { "name": "p", "labels": { "a": "b" }, "annotations": {} },
                "spec": {},
            });
            change(&mut value);
            object(&value.to_string(), &profiles(true), Some("shop")).map(|(_, name)| name)
        };
        assert_eq!(written(|_| ()), Ok("p".into()));
        assert_eq!(written(|v| v["metadata"]["namespace"] = json!("shop")), Ok("p".into()));
        assert_eq!(written(|v| v["metadata"]["namespace"] = Value::Null), Ok("p".into()));
        let rows: [(Change, &str); 9] = [
            (|v| *v = json!([]), "the object's apiVersion is null, and not \"g.io/v1\""),
            (|v| v["apiVersion"] = json!("v1"), "the object's apiVersion is \"v1\", and not \"g.io/v1\""),
            (|v| v["kind"] = json!("Pod"), "the object's kind is \"Pod\", and not \"Profile\""),
            (|v| v["metadata"] = json!(1), "the object has no metadata"),
            (
                |v| v["metadata"]["namespace"] = json!("bank"),
                "metadata.namespace is not the namespace of the call",
            ),
            (|v| v["metadata"]["name"] = json!("../p"), "\"../p\" cannot be the name of an object"),
            (|v| v["metadata"] = json!({}), "the object has no name"),
            (|v| v["metadata"]["finalizers"] = json!([]), "metadata.finalizers is not for a module to write"),
            (
                |v| v["metadata"]["generateName"] = json!("p-"),
                "metadata.generateName is not for a module to write",
            ),
        ];
        for (change, want) in rows {
            let reason = written(change).expect_err(want);
            assert!(reason.starts_with(want), "{reason:?} does not begin with {want:?}");
        }
        for (text, want) in [("# a comment", "the object is no JSON"), ("{} {}", "the object is no JSON")] {
            assert!(object(text, &profiles(true), None).unwrap_err().starts_with(want));
        }
        let huge = " ".repeat(OBJECT_MAX_BYTES + 1);
        assert!(object(&huge, &profiles(true), None).unwrap_err().contains("more than 1536 KiB"));
    }
}
