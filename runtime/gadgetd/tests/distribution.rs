//! A module on its way from its author to a user, with the commands that both have. Needs no rights.

mod support;

use std::{fs, path::Path};

use gadgetd_registry_tests::{LOGIN, Options, Registry};
use support::{Finished, gadgetd, start};

/// A folder to work in, with a module and two pairs of keys, and nothing from outside.
struct Author(tempfile::TempDir);

impl Author {
    fn new() -> Self {
        let author = Self(tempfile::tempdir().unwrap());
        fs::write(author.at("mine.wasm"), gadgetd_guests::gadget(None)).unwrap();
        for name in ["me", "other"] {
            let made = author.run(&["module", "keygen", name]).code(0);
            assert_eq!(made.stdout, "", "{}", made.stderr);
        }
        author
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = gadgetd(arguments);
        command
            .current_dir(self.0.path())
            .env("DOCKER_CONFIG", self.0.path())
            .env_remove("REGISTRY_AUTH_FILE");
        // As in a container that has nothing but gadgetd: it trusts Mozilla's authorities then. Whoever pushes has a system.
        if !matches!(arguments.get(1), Some(&"push" | &"sign")) {
            command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
        }
        start(&mut command).finish()
    }
}

#[test]
fn a_module_goes_from_its_author_to_a_user() {
    let registry = Registry::start();
    let author = Author::new();
    let tag = format!("{}/mine:1", registry.address());

    let pushed = author.run(&["module", "push", "mine.wasm", &tag]).code(0).stdout;
    let pushed = pushed.strip_suffix('\n').unwrap();
    assert_eq!(pushed, format!("{tag}@{}", registry.tagged("mine", "1")));

    let unsigned = author.run(&["module", "verify", pushed, "--key", "me.pub"]).code(1).stderr;
    assert!(unsigned.contains("is not signed, and unsigned modules are not allowed"), "{unsigned}");
    let allowed = author.run(&["module", "verify", pushed, "--allow-unsigned"]).code(0).stdout;
    assert_eq!(allowed, format!("{pushed}, not signed\n"));

    let signed = author.run(&["module", "sign", pushed, "--key", "me.key"]).code(0);
    assert_eq!(signed.stdout, format!("{pushed}\n"));
    let verified = author.run(&["module", "verify", &tag, "--key", "other.pub", "--key", "me.pub"]).code(0);
    let (reference, key) = verified.stdout.trim().split_once(", signed with key ").unwrap();
    assert_eq!(reference, pushed);
    assert!(signed.stderr.contains(key), "{} {}", key, signed.stderr);

    let inspected = author.run(&["module", "inspect", &tag, "--key", "me.pub", "--json"]).code(0).stdout;
    let about: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&about["source"]["reference"], &about["source"]["signed-by"]), (&pushed.into(), &key.into()));

    author.run(&["module", "pull", &tag, "--key", "me.pub", "-o", "got.wasm"]).code(0);
    assert!(fs::read(author.at("got.wasm")).unwrap() == fs::read(author.at("mine.wasm")).unwrap());
    let refused = author.run(&["module", "pull", &tag, "--key", "other.pub", "--allow-unsigned", "-o", "no"]);
    let refused = refused.code(1);
    assert!(refused.stderr.contains("is signed, but not with key "), "{}", refused.stderr);
    assert!(!author.at("no").exists());

    let params = author.run(&["run", "--gadget", &tag, "--key", "me.pub", "--list-params"]).code(0).stdout;
    assert!(params.starts_with("Gadget "), "{params}");
    let refused = author.run(&["run", "--gadget", &tag, "--list-params"]).code(1).stderr;
    assert!(refused.contains(&format!("cannot use gadget {tag}: no key is given")), "{refused}");
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_asked() {
    let author = Author::new();
    fs::write(author.at("text.wasm"), "hello").unwrap();
    let nowhere = "registry.invalid/mine:1";
    let digest = format!("{nowhere}@sha256:{}", "0".repeat(64));
    for (line, code, says) in [
        ("push text.wasm registry.invalid/mine:1", 1, "is no WebAssembly component: it is text"),
        ("push none.wasm registry.invalid/mine:1", 1, "cannot read gadget none.wasm"),
        ("push mine.wasm me/mine:1", 2, "names no registry"),
        (&format!("push mine.wasm {digest}"), 2, "name a tag"),
        ("verify registry.invalid/mine:1", 2, "no key is given"),
        ("verify registry.invalid/mine:1 --key me.key", 1, "me.key as a public key: it is a private key"),
        ("sign registry.invalid/mine:1 --key me.pub", 1, "others than its owner can read me.pub"),
        ("sign registry.invalid/mine:1 --key none", 1, "cannot read the private key none"),
        ("keygen me", 2, "exists, and nothing is written over a key"),
        ("pull registry.invalid/mine:1", 2, "--output"),
        ("verify registry.invalid/mine:1 --ca x --plain-http", 2, "cannot be used with"),
    ] {
        let line: Vec<&str> = ["module"].into_iter().chain(line.split(' ')).collect();
        let refused = author.run(&line).code(code);
        assert!(refused.stderr.contains(says), "{line:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{line:?}");
    }
}

#[test]
fn a_login_and_an_authority_are_taken_from_where_they_are_said_to_be() {
    let registry = Registry::start_with(Options { login: true, tls: true });
    let author = Author::new();
    let tag = format!("{}/mine:1", registry.address());
    fs::write(author.at("ca.pem"), registry.authority()).unwrap();
    let push = |more: &[&str]| author.run(&[&["module", "push", "mine.wasm", &tag], more].concat());
    let unknown = push(&[]).code(1).stderr;
    assert!(unknown.contains("cannot push"), "{unknown}");
    let denied = push(&["--ca", "ca.pem"]).code(1).stderr;
    assert!(denied.contains("without a login: use `docker login`"), "{denied}");
    let (user, password) = LOGIN;
    let login =
        serde_json::json!({ "auths": { registry.address(): { "username": user, "password": password } } });
    fs::write(author.at("config.json"), login.to_string()).unwrap();
    push(&["--ca", "ca.pem"]).code(0);
    assert!(Path::new(&registry.blob(&registry.tagged("mine", "1"))).exists());
}
