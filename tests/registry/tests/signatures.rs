//! Push, pull, sign and verify, with a registry as it should be.

mod common;

use std::{fs, path::Path, sync::Arc};

use common::{Fetcher, LIMIT, ME, MODULE, STRANGER, config, digest, push, reference, signed, trust};
use gadgetd_guests::formatter;
use gadgetd_host::{Host, HostConfig, ModuleError, ModuleRef, Source};
use gadgetd_registry::{
    About, CONFIG_MEDIA_TYPE, Client, Config, Credentials, Encryption, Error, LAYER_MEDIA_TYPE, Reference,
};
use gadgetd_registry_tests::{Front, LOGIN, Options, Registry};
use oci_client::{
    Client as OciClient,
    client::{ClientConfig, ClientProtocol},
    manifest::OCI_IMAGE_MEDIA_TYPE,
    secrets::RegistryAuth,
};
use serde_json::{Value, json};

/// Whether it is the refusal that is wanted.
type Refusal = fn(&Error) -> bool;

#[tokio::test]
async fn a_module_comes_back_by_tag_and_by_digest() {
    let registry = Registry::start();
    let pushed = push(&registry, "me/mine:1.0").await;
    let tag = format!("{}/me/mine:1.0", registry.address());
    assert_eq!(push(&registry, "me/mine:1.0").await, pushed, "the same module has another digest");

    let fetcher = Fetcher::new();
    let anybody = trust(&[], true);
    let without_tag = format!("{}/me/mine@{}", registry.address(), digest(&pushed));
    for text in [&tag, &pushed, &without_tag] {
        let module = fetcher.fetch(text, &anybody).await.expect(text);
        assert!(module.bytes == *MODULE, "{text} is something else");
        assert_eq!(module.origin.manifest, digest(&pushed), "{text}");
        assert_eq!(module.origin.signed_by, None, "{text}");
    }
    let error = fetcher.fetch(&tag.replace("1.0", "2.0"), &anybody).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    let error = Client::new(config()).push(&reference(&pushed), MODULE.clone(), &About::default()).await;
    assert!(matches!(error, Err(Error::Reference(_))), "pushed to a digest");
}

/// Other tools look at nothing but this.
#[tokio::test]
async fn what_is_pushed_has_the_layout_that_others_read() {
    let registry = Registry::start();
    let tag = reference(&format!("{}/mine:1", registry.address()));
    let about = About {
        name: "count".into(),
        version: "1.2.3".into(),
        summary: "Counts\ncalls.".into(),
        imports: vec!["gadget:framework/log@0.1.0".into()],
        exports: vec!["gadget:framework/gadget@0.1.0".into()],
    };
    let digest = Client::new(config()).push(&tag, MODULE.clone(), &about).await.unwrap();
    assert_eq!(registry.tagged("mine", "1"), digest.to_string());

    let json = |digest: &str| -> Value {
        serde_json::from_slice(&fs::read(registry.blob(digest)).unwrap()).unwrap()
    };
    let manifest = json(&digest.to_string());
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], OCI_IMAGE_MEDIA_TYPE);
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["layers"][0]["size"], MODULE.len());
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(
        manifest["annotations"],
        json!({
            "org.opencontainers.image.title": "count",
            "org.opencontainers.image.version": "1.2.3",
            "org.opencontainers.image.description": "Counts calls.",
        })
    );
    let layer = &manifest["layers"][0]["digest"];
    assert_eq!(
        json(manifest["config"]["digest"].as_str().unwrap()),
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer],
            "component": { "imports": about.imports, "exports": about.exports },
        })
    );

    // As `wkg` and others do it.
    let client = OciClient::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let place = tag.to_string().parse().unwrap();
    let pulled = client.pull(&place, &RegistryAuth::Anonymous, vec![LAYER_MEDIA_TYPE]).await.unwrap();
    assert_eq!(pulled.config.media_type, CONFIG_MEDIA_TYPE);
    assert!(*pulled.layers[0].data == **MODULE, "the layer is something else");
}

#[tokio::test]
async fn only_what_somebody_who_is_trusted_signed_is_taken() {
    let registry = Registry::start();
    let client = Client::new(config());
    let unsigned = push(&registry, "unsigned:1").await;
    let mine = push(&registry, "mine:1").await;
    client.sign(&reference(&mine), &ME).await.unwrap();
    let both = push(&registry, "both:1").await;
    for key in [&*STRANGER, &*ME, &*STRANGER] {
        client.sign(&reference(&both), key).await.unwrap();
    }
    // Signed by a tag, which is as good.
    let tagged = push(&registry, "tagged:1").await;
    client.sign(&reference(&format!("{}/tagged:1", registry.address())), &ME).await.unwrap();

    let (me, stranger) = (Some(ME.public().id()), Some(STRANGER.public().id()));
    let not_signed: Refusal = |error| matches!(error, Error::Unsigned(_));
    let by_others: Refusal = |error| matches!(error, Error::Stranger { .. });
    let no_trust: Refusal = |error| matches!(error, Error::NobodyIsTrusted);
    for (text, keys, allow_unsigned, outcome) in [
        (&unsigned, &[][..], false, Err(no_trust)),
        (&unsigned, &[], true, Ok(None)),
        (&unsigned, &[&*ME], false, Err(not_signed)),
        (&unsigned, &[&*ME], true, Ok(None)),
        (&mine, &[], false, Err(no_trust)),
        (&mine, &[], true, Ok(None)),
        (&mine, &[&*ME], false, Ok(me)),
        (&mine, &[&*ME], true, Ok(me)),
        (&mine, &[&*STRANGER, &*ME], false, Ok(me)),
        (&mine, &[&*STRANGER], false, Err(by_others)),
        (&mine, &[&*STRANGER], true, Err(by_others)),
        (&both, &[&*ME], false, Ok(me)),
        (&both, &[&*STRANGER], false, Ok(stranger)),
        (&tagged, &[&*ME], false, Ok(me)),
    ] {
        let row = format!("{text} with {} keys, unsigned allowed: {allow_unsigned}", keys.len());
        let trust = trust(keys, allow_unsigned);
        let fetcher = Fetcher::new();
        let verified = fetcher.client.verify(&reference(text), &trust).await;
        match (outcome, verified) {
            (Ok(signed_by), Ok(origin)) => {
                assert_eq!((origin.signed_by, origin.manifest), (signed_by, digest(text)), "{row}");
                assert_eq!(fetcher.fetch(text, &trust).await.expect(&row).origin, origin, "{row}");
            }
            (Err(is), Err(error)) => {
                assert!(is(&error), "{row}: {error}");
                let error = fetcher.refused(text, &trust).await;
                assert!(is(&error), "{row}: {error}");
                assert!(!error.is_temporary(), "{row}: {error}");
            }
            (_, Ok(origin)) => panic!("{row}: verified as {origin}"),
            (_, Err(error)) => panic!("{row}: {error}"),
        }
    }
}

/// Whoever may write to the repository copies a good signature to where it does not belong.
#[tokio::test]
async fn the_signature_of_another_module_is_none() {
    let (registry, mine) = signed().await;
    let other = reference(&format!("{}/mine:2", registry.address()));
    let other_digest = Client::new(config()).push(&other, formatter(None), &About::default()).await.unwrap();
    let list = registry.tagged("mine", &format!("sha256-{}.sig", digest(&mine).hex()));
    let list = fs::read(registry.blob(&list)).unwrap();
    let thief = OciClient::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let place = format!("{}/mine:sha256-{}.sig", registry.address(), other_digest.hex()).parse().unwrap();
    thief.push_manifest_raw(&place, list, OCI_IMAGE_MEDIA_TYPE.parse().unwrap()).await.unwrap();

    let text = format!("{other}@{other_digest}");
    for allow_unsigned in [false, true] {
        let error = Fetcher::new().refused(&text, &trust(&[&ME], allow_unsigned)).await;
        let Error::OtherDigest { digest: at, signed } = &error else { panic!("{error}") };
        assert_eq!((*at, signed), (other_digest, &digest(&mine).to_string()));
        let error = Fetcher::new().refused(&text, &trust(&[&STRANGER], allow_unsigned)).await;
        assert!(matches!(error, Error::Stranger { .. }), "{error}");
    }
    // The good one beside it counts, wherever it stands in the list.
    Client::new(config()).sign(&reference(&text), &ME).await.unwrap();
    let fetched = Fetcher::new().fetch(&text, &trust(&[&ME], false)).await.unwrap();
    assert_eq!(fetched.origin.signed_by, Some(ME.public().id()));
}

/// What cosign itself reads: see docs/decisions/016.
#[tokio::test]
async fn signatures_have_cosigns_form() {
    let (registry, mine) = signed().await;
    let list = registry.tagged("mine", &format!("sha256-{}.sig", digest(&mine).hex()));
    let list: Value = serde_json::from_slice(&fs::read(registry.blob(&list)).unwrap()).unwrap();
    assert_eq!(list["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(list["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let layer = &list["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    assert!(layer["annotations"]["dev.cosignproject.cosign/signature"].is_string(), "{layer}");
    let payload = fs::read(registry.blob(layer["digest"].as_str().unwrap())).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&payload).unwrap(),
        json!({
            "critical": {
                "identity": { "docker-reference": format!("{}/mine", registry.address()) },
                "image": { "docker-manifest-digest": digest(&mine).to_string() },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
    );
}

#[tokio::test]
async fn what_was_verified_is_had_without_the_registry() {
    let (mut registry, pushed) = signed().await;
    let fetcher = Fetcher::new();
    let mine = trust(&[&ME], false);
    let module = fetcher.fetch(&pushed, &mine).await.unwrap();
    assert_eq!(fetcher.kept().len(), 3);
    registry.stop();
    assert_eq!(fetcher.fetch(&pushed, &mine).await.unwrap().origin, module.origin);
    assert_eq!(fetcher.fetch(&pushed, &trust(&[], true)).await.unwrap().origin.signed_by, None);
    // Here, everything must be asked for again: another key, a tag, a file that was exchanged.
    let tag = pushed.split_once('@').unwrap().0;
    for (text, trust) in [(&*pushed, trust(&[&STRANGER], true)), (tag, mine.clone())] {
        let error = fetcher.fetch(text, &trust).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }) && error.is_temporary(), "{error}");
    }
    let component = fetcher
        .kept()
        .into_iter()
        .find(|name| Path::new(name).extension().is_some_and(|e| e == "wasm"))
        .unwrap();
    fs::write(fetcher.folder().join(component), formatter(None)).unwrap();
    let error = fetcher.fetch(&pushed, &mine).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn the_host_runs_what_was_verified_and_knows_whose_it_is() {
    let (registry, pushed) = signed().await;
    let tag = ModuleRef::parse(&format!("{}/mine:1", registry.address()));
    let folder = tempfile::tempdir().unwrap();
    let cache_dir = Some(folder.path().to_owned());
    let client = Arc::new(Client::new(config()));
    let host = Host::new(HostConfig { registry: Some(client), cache_dir, ..HostConfig::default() }).unwrap();
    let compiled = || fs::read_dir(folder.path()).unwrap().count();

    let refused = host.gadget(&tag).await.unwrap_err();
    assert!(matches!(refused, ModuleError::Fetch { temporary: false, .. }), "{refused}");
    let refused = host.gadget_from(&tag, &trust(&[&STRANGER], true)).await.unwrap_err();
    let why = std::error::Error::source(&refused).expect("it has a reason").to_string();
    assert!(why.contains("is signed, but not with key"), "{why}");
    assert_eq!(compiled(), 0, "it was compiled before it was verified");

    let mine = trust(&[&ME], false);
    let gadget = host.gadget_from(&tag, &mine).await.unwrap();
    let Source::Registry(origin) = gadget.source() else { panic!("{}", gadget.source()) };
    assert_eq!(origin.to_string(), pushed);
    assert_eq!(origin.signed_by, Some(ME.public().id()));
    assert_eq!(compiled(), 1);
    // Whose a module is says nothing about what it is.
    assert!(matches!(host.formatter_from(&tag, &mine).await, Err(ModuleError::WrongRole { .. })));

    let alone = Host::new(HostConfig::default()).unwrap().gadget_from(&tag, &mine).await.unwrap_err();
    assert!(matches!(alone, ModuleError::NoRegistry { .. }), "{alone}");
}

#[tokio::test]
async fn a_login_is_taken_from_where_docker_keeps_it() {
    let registry = Registry::start_with(Options { login: true, ..Options::default() });
    let text = format!("{}/mine:1", registry.address());
    let folder = tempfile::tempdir().unwrap();
    let client = |user: &str, password: &str| {
        let path = folder.path().join("config.json");
        let auths = json!({ registry.address(): { "username": user, "password": password } });
        fs::write(&path, json!({ "auths": auths }).to_string()).unwrap();
        Client::new(Config { credentials: Credentials::File(path), ..config() })
    };
    let (me, other) = (client(LOGIN.0, LOGIN.1), Client::new(config()));
    let about = About::default();
    assert!(other.push(&reference(&text), MODULE.clone(), &about).await.is_err());
    me.push(&reference(&text), MODULE.clone(), &about).await.unwrap();
    me.sign(&reference(&text), &ME).await.unwrap();
    let mine = trust(&[&ME], false);
    assert!(me.fetch(&reference(&text), &mine, LIMIT).await.unwrap().bytes == *MODULE);
    let denied = |error: &Error| match error {
        Error::Denied { known, .. } => *known,
        error => panic!("{error}"),
    };
    assert!(!denied(&Fetcher::new().refused(&text, &mine).await));
    let wrong = client(LOGIN.0, "guess");
    assert!(denied(&wrong.fetch(&reference(&text), &mine, LIMIT).await.unwrap_err()));
}

/// As public registries do it: whoever asks is sent to get a token first.
#[tokio::test]
async fn a_token_is_fetched_where_one_is_asked_for() {
    let (registry, pushed) = signed().await;
    let realm = Front::alone(|head| {
        // The repository's name, to read, and with the login that is known.
        let asks = head.starts_with("GET /token?service=test&scope=repository%3Amine%3Apull HTTP");
        let knows = head.to_ascii_lowercase().contains("authorization: basic bwu6c2vjcmv0");
        let body = if asks && knows { r#"{"token": "t", "access_token": "t"}"# } else { "{}" };
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    });
    let place = format!("http://{}/token", realm.address());
    let front = Front::before(&registry, move |head| {
        let allowed = head.to_ascii_lowercase().contains("authorization: bearer t\r\n");
        let challenge = format!(
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"{place}\",service=\"test\"\r\n\
             Connection: close\r\nContent-Length: 0\r\n\r\n"
        );
        (!allowed).then(|| challenge.into_bytes())
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let auths = json!({ front.address(): { "username": LOGIN.0, "password": LOGIN.1 } });
    fs::write(&path, json!({ "auths": auths }).to_string()).unwrap();
    let text = pushed.replace(registry.address(), front.address());
    let mine = trust(&[&ME], false);
    let client = Client::new(Config { credentials: Credentials::File(path), ..config() });
    client.fetch(&reference(&text), &mine, LIMIT).await.unwrap();
    assert_eq!(realm.asked().len(), 1, "{:?}", realm.asked());
    // Without the login, the realm gives none.
    let error = Fetcher::new().refused(&text, &mine).await;
    assert!(
        matches!(&error, Error::Challenge { reason, .. } if reason.contains("no access token")),
        "{error}"
    );
}

#[tokio::test]
async fn connections_are_encrypted_and_the_authority_must_be_known() {
    let registry = Registry::start_with(Options { tls: true, ..Options::default() });
    let text = reference(&format!("{}/mine:1", registry.address()));
    let encrypted = Config { encryption: Encryption::Always, ..config() };
    let knows = Config { authorities: vec![registry.authority().to_owned()], ..encrypted.clone() };
    let client = Client::new(knows);
    client.push(&text, MODULE.clone(), &About::default()).await.unwrap();
    client.sign(&text, &ME).await.unwrap();
    let mine = trust(&[&ME], false);
    assert!(client.fetch(&text, &mine, LIMIT).await.unwrap().bytes == *MODULE);
    let error = Fetcher::with(encrypted).refused(&text.to_string(), &mine).await;
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // In the clear it does not even understand.
    Fetcher::new().refused(&text.to_string(), &mine).await;
    assert_eq!(Reference::parse(&text.to_string()).unwrap(), text);
}
