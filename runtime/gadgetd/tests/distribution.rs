//! A module on its way from its author to a user, with the commands that both have. Needs no rights.

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gadgetd_registry_tests::{LOGIN, Options, Registry};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::{Finished, gadgetd, installed, start};

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

/// Whether skopeo did it, and what it printed.
fn skopeo(author: &Author, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new("skopeo");
    // Where signatures are attached to what they sign, as cosign does it.
    fs::create_dir_all(author.at("registries.d")).unwrap();
    fs::write(author.at("registries.d/all.yaml"), "default-docker:\n  use-sigstore-attachments: true\n")
        .unwrap();
    command.args(["--insecure-policy", "--registries.d", "registries.d"]).args(arguments);
    let Output { status, stdout, stderr } = command.current_dir(author.0.path()).output().unwrap();
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    stdout
}

#[test]
fn another_tool_reads_what_was_pushed_and_takes_its_signature_along() {
    if !installed("skopeo") {
        return;
    }
    let (registry, author) = (Registry::start(), Author::new());
    let place = format!("{}/mine", registry.address());
    let pushed = author.run(&["module", "push", "mine.wasm", &format!("{place}:1")]).code(0).stdout;
    author.run(&["module", "sign", pushed.trim(), "--key", "me.key"]).code(0);
    let digest = registry.tagged("mine", "1");

    // The manifest is what the digest is of, and the layer is the component, byte by byte.
    let source = format!("docker://{place}@{digest}");
    let manifest = skopeo(&author, &["inspect", "--raw", "--tls-verify=false", &source]);
    assert_eq!(format!("sha256:{:x}", Sha256::digest(&manifest)), digest);
    skopeo(&author, &["copy", "--src-tls-verify=false", &source, "dir:copy"]);
    assert!(fs::read(author.at("copy/manifest.json")).unwrap() == manifest);
    let component = fs::read(author.at("mine.wasm")).unwrap();
    let layer = format!("copy/{:x}", Sha256::digest(&component));
    assert!(fs::read(author.at(&layer)).unwrap() == component, "another component");

    // Of the signature openssl thinks the same as gadgetd.
    let signature = fs::read(author.at("copy/signature-1")).unwrap();
    let signature: Value =
        serde_json::from_slice(signature.strip_prefix(b"\0sigstore-json\n").unwrap()).unwrap();
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    fs::write(author.at("payload"), bytes(&signature["payload"])).unwrap();
    let of = &signature["annotations"]["dev.cosignproject.cosign/signature"];
    fs::write(author.at("signature"), bytes(of)).unwrap();
    for (key, good) in [("me.pub", true), ("other.pub", false)] {
        let mut openssl = Command::new("openssl");
        openssl.args(["dgst", "-sha256", "-verify", key, "-signature", "signature", "payload"]);
        let said = openssl.current_dir(author.0.path()).output().unwrap();
        assert_eq!(said.status.success(), good, "{key}: {said:?}");
    }

    // To another registry, by way of files and as another tool writes it: the same module, still vouched for.
    let mirror = Registry::start();
    let copy = format!("{}/mirrored/mine:1", mirror.address());
    skopeo(&author, &["copy", "--dest-tls-verify=false", "dir:copy", &format!("docker://{copy}")]);
    let verified = author.run(&["module", "verify", &copy, "--key", "me.pub"]).code(0).stdout;
    assert!(verified.starts_with(&format!("{copy}@{digest}, signed with key ")), "{verified}");
    author.run(&["module", "pull", &copy, "--key", "me.pub", "-o", "mirrored.wasm"]).code(0);
    assert!(fs::read(author.at("mirrored.wasm")).unwrap() == component);
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
