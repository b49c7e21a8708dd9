//! Where a release comes from: an in-toto statement with SLSA's predicate.

use serde_json::{Value, json};

/// The statement: that the files (name and SHA-256) were built from this commit of this repository by `cargo xtask dist`, with
/// these compilers (name and version).
///
/// It has no times: the same commit gives the same statement.
pub(super) fn statement(files: &[(String, String)], commit: &str, compilers: &[(String, String)]) -> Value {
    let repository = env!("CARGO_PKG_REPOSITORY");
    let subjects = files.iter().map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } }));
    let versions = compilers.iter().map(|(name, version)| (name.clone(), Value::from(version.clone())));
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects.collect::<Vec<_>>(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": format!("{repository}/blob/{commit}/docs/decisions/021-releases.md"),
                "externalParameters": { "command": "cargo xtask dist" },
                "internalParameters": versions.collect::<serde_json::Map<_, _>>(),
                "resolvedDependencies": [
                    { "uri": format!("git+{repository}@{commit}"), "digest": { "gitCommit": commit } },
                ],
            },
            "runDetails": { "builder": { "id": format!("{repository}/blob/{commit}/xtask/src/dist/mod.rs") } },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_subject() {
        let files = [("a.tar.gz".to_owned(), "aa".to_owned()), ("b".to_owned(), "bb".to_owned())];
        let statement = statement(&files, "c0ffee", &[("rustc".into(), "1.95".into())]);
        assert_eq!(statement["subject"][1], json!({ "name": "b", "digest": { "sha256": "bb" } }));
        let built = &statement["predicate"]["buildDefinition"];
        assert_eq!(built["resolvedDependencies"][0]["digest"]["gitCommit"], "c0ffee");
        assert_eq!(built["internalParameters"]["rustc"], "1.95");
    }
}
