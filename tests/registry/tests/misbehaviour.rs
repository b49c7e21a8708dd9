//! Registries that are broken, slow, or up to something. Each ends in an error of its own, and nothing is kept.

mod common;

use std::{fs, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Fetcher, ME, MODULE, STRANGER, config, digest, push, reference, signed, trust};
use gadgetd_registry::{Client, Config, Credentials, Error, Part};
use gadgetd_registry_tests::{Front, LOGIN, Options, Registry};
use serde_json::{Value, json};

/// Whether an error is the one that is meant.
type Is = fn(&Error) -> bool;

/// An answer of a server, which says that it closes the connection: a client that goes on with it would find it gone.
fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The digests of the module's layer, of the list of its signatures, and of what the first of those signs.
fn parts(registry: &Registry, pushed: &str) -> [String; 3] {
    let json = |digest: &str| -> Value {
        serde_json::from_slice(&fs::read(registry.blob(digest)).unwrap()).unwrap()
    };
    let first = |digest: &str| json(digest)["layers"][0]["digest"].as_str().unwrap().to_owned();
    let artifact = digest(pushed);
    let signatures = registry.tagged("mine", &format!("sha256-{}.sig", artifact.hex()));
    let payload = first(&signatures);
    [first(&artifact.to_string()), signatures, payload]
}

/// What is done to a file of the registry.
type Damage = fn(&mut Vec<u8>);

/// Whoever can write to the registry's disk changes a file, and changes it back.
#[tokio::test]
async fn what_was_changed_in_the_registry_is_refused() {
    let (registry, pushed) = signed().await;
    let mine = trust(&[&ME], false);
    let [layer, signatures, payload] = parts(&registry, &pushed);
    let (tag, manifest) = pushed.split_once('@').unwrap();

    let flip: fn(&mut Vec<u8>) = |bytes| *bytes.last_mut().unwrap() ^= 1;
    let cut: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    let more: fn(&mut Vec<u8>) = |bytes| bytes.extend_from_slice(&[0; 1000]);
    let rename: fn(&mut Vec<u8>) = |bytes| {
        let text = String::from_utf8(std::mem::take(bytes)).unwrap();
        *bytes = text.replacen("hostile", "Hostile", 1).into_bytes();
    };
    // A signature that somebody else made of the same bytes.
    let resign: fn(&mut Vec<u8>) = |bytes| {
        let mut list: Value = serde_json::from_slice(bytes).unwrap();
        let signature = &mut list["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"];
        *signature = json!(
            "MEUCIQDnAnN1Zsy9Y2kM7b9M3qK6yD1Jx4c4zY3yXQ2yKQp8WwIgXl0kq1d3x4mB5c7S0M7n5s5x2cJ9yB2o1p8v0s6tS0M="
        );
        *bytes = list.to_string().into_bytes();
    };
    let rows: [(&str, &str, Damage, Is); 8] = [
        ("a bit of the component", &layer, flip, |e| matches!(e, Error::Tampered { part: Part::Layer, .. })),
        (
            "half of the component",
            &layer,
            cut,
            |e| matches!(e, Error::Truncated { part: Part::Layer, received, declared } if received * 2 <= *declared),
        ),
        ("more than the component", &layer, more, |e| matches!(e, Error::Longer { part: Part::Layer, .. })),
        ("a bit of what is signed", &payload, flip, |e| {
            matches!(e, Error::Tampered { part: Part::Payload, .. })
        }),
        ("half of what is signed", &payload, cut, |e| {
            matches!(e, Error::Truncated { part: Part::Payload, .. })
        }),
        ("the signature", &signatures, resign, |e| {
            matches!(e, Error::Stranger { looked_at: 1, .. } | Error::Tampered { part: Part::Signatures, .. })
        }),
        ("the manifest", manifest, rename, |e| matches!(e, Error::Tampered { part: Part::Manifest, .. })),
        ("half of the manifest", manifest, cut, |e| {
            matches!(e, Error::Tampered { part: Part::Manifest, .. } | Error::Status { status: 500, .. })
        }),
    ];
    for (what, blob, change, is) in rows {
        let file = registry.blob(blob);
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        change(&mut changed);
        assert_ne!(changed, whole, "{what}");
        fs::write(&file, changed).unwrap();
        for text in [tag, &pushed] {
            let fetcher = Fetcher::new();
            let error = fetcher.refused(text, &mine).await;
            assert!(is(&error), "{what}, {text}: {error:?}");
            fs::write(&file, &whole).unwrap();
            fetcher.fetch(text, &mine).await.unwrap_or_else(|e| panic!("{what}, mended: {e}"));
            let mut changed = whole.clone();
            change(&mut changed);
            fs::write(&file, changed).unwrap();
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[tokio::test]
async fn a_module_that_is_too_large_is_not_even_asked_for() {
    let (registry, pushed) = signed().await;
    let front = Front::before(&registry, |_| None);
    let text = pushed.replace(registry.address(), front.address());
    let client = Client::new(config());
    let size = MODULE.len() as u64;
    let error = client.fetch(&reference(&text), &trust(&[&ME], false), size - 1).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { part: Part::Layer, limit } if limit == size - 1), "{error}");
    let layer = &parts(&registry, &pushed)[0];
    assert!(!front.asked().iter().any(|line| line.contains(layer)), "{:?}", front.asked());
    client.fetch(&reference(&text), &trust(&[&ME], false), size).await.unwrap();
}

/// First whose it is, and only then the component: a stranger's is not even downloaded.
#[tokio::test]
async fn the_signature_is_verified_before_the_component_is_asked_for() {
    let (registry, pushed) = signed().await;
    let front = Front::before(&registry, |_| None);
    let text = pushed.replace(registry.address(), front.address());
    let layer = parts(&registry, &pushed)[0].clone();
    let asked = |front: &Front| front.asked().iter().position(|line| line.contains(&layer));
    Fetcher::new().refused(&text, &trust(&[&STRANGER], false)).await;
    assert_eq!(asked(&front), None, "{:?}", front.asked());
    Fetcher::new().fetch(&text, &trust(&[&ME], false)).await.unwrap();
    assert_eq!(asked(&front), Some(front.asked().len() - 1), "{:?}", front.asked());
}

/// What a registry may do to one of the requests, and what comes of it.
#[tokio::test]
#[allow(clippy::too_many_lines)] // A row for each way to misbehave.
async fn a_registry_that_misbehaves_is_named_and_left() {
    let (registry, pushed) = signed().await;
    let [layer, ..] = parts(&registry, &pushed);
    let tag = pushed.split_once('@').unwrap().0;
    let elsewhere = Front::alone(|_| answer("200 OK", "", &MODULE));
    let to = |place: &str| answer("307 Temporary Redirect", &format!("Location: {place}\r\n"), b"");
    let size = MODULE.len();
    let hang = |begin: &[u8]| [begin, Front::HANG].concat();
    let endless = |begin: &str| [begin.as_bytes(), Front::ENDLESS].concat();
    let (manifest, signatures, blob) = ("manifests/1 ", ".sig ", layer.as_str());

    let silent: Is = |e| matches!(e, Error::Silent { .. }) && e.is_temporary();
    let redirected: Is = |e| matches!(e, Error::Redirect { .. }) && !e.is_temporary();
    let protocol: Is = |e| matches!(e, Error::Protocol { .. });
    let no_module: Is = |e| matches!(e, Error::NoModule(_));
    let rows: Vec<(&str, &str, Vec<u8>, Is)> = vec![
        ("no answer", manifest, hang(b""), silent),
        ("no answer", signatures, hang(b""), silent),
        ("no answer", blob, hang(b""), silent),
        ("half an answer", manifest, hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"), silent),
        ("half a component", blob, hang(b"HTTP/1.1 200 OK\r\n\r\n\0asm"), silent),
        (
            "the connection ends early",
            blob,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\nasm").into_bytes(),
            |e| matches!(e, Error::Truncated { received: 3, .. }) && e.is_temporary(),
        ),
        ("less than declared", blob, answer("200 OK", "", &MODULE[1..]), |e| {
            matches!(e, Error::Truncated { part: Part::Layer, .. })
        }),
        ("more than declared", blob, answer("200 OK", "", &[&MODULE[..], b"x"].concat()), |e| {
            matches!(e, Error::Longer { part: Part::Layer, .. })
        }),
        ("a component without an end", blob, endless("HTTP/1.1 200 OK\r\n\r\n"), |e| {
            matches!(e, Error::Longer { part: Part::Layer, .. })
        }),
        ("a manifest without an end", manifest, endless("HTTP/1.1 200 OK\r\n\r\n"), |e| {
            matches!(e, Error::TooLarge { part: Part::Manifest, .. })
        }),
        (
            "a manifest that says that it is huge",
            manifest,
            hang(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            |e| matches!(e, Error::TooLarge { part: Part::Manifest, .. }),
        ),
        ("signatures without an end", signatures, endless("HTTP/1.1 200 OK\r\n\r\n"), |e| {
            matches!(e, Error::TooLarge { part: Part::Signatures, .. })
        }),
        ("signatures that are none", signatures, answer("200 OK", "", b"{}"), |e| {
            matches!(e, Error::Signatures(_))
        }),
        ("signatures that nobody may see", signatures, answer("403 Forbidden", "", b""), |e| {
            matches!(e, Error::Denied { .. })
        }),
        ("another component", blob, answer("200 OK", "", &vec![0; size]), |e| {
            matches!(e, Error::Tampered { part: Part::Layer, .. })
        }),
        (
            "a manifest of another digest",
            manifest,
            {
                let headers = format!("Docker-Content-Digest: {}\r\n", digest(&pushed));
                answer("200 OK", &headers, b"{}")
            },
            |e| matches!(e, Error::Tampered { part: Part::Manifest, .. }),
        ),
        (
            "elsewhere for the manifest",
            manifest,
            to(&format!("http://{}/x", elsewhere.address())),
            redirected,
        ),
        ("elsewhere for the signatures", signatures, to("https://example.com/"), redirected),
        ("elsewhere for the component", blob, to(&format!("http://{}/x", elsewhere.address())), redirected),
        ("elsewhere by https", blob, to("https://example.com/x"), redirected),
        ("another scheme", blob, to("file:///etc/passwd"), redirected),
        ("nowhere", blob, answer("307 Temporary Redirect", "", b""), redirected),
        ("in a circle", blob, to(&format!("/v2/mine/blobs/{layer}")), redirected),
        ("no HTTP", manifest, b"SSH-2.0-OpenSSH\r\n".to_vec(), protocol),
        ("a head without an end", manifest, endless("HTTP/1.1 200 OK\r\nX: "), protocol),
        ("not there", manifest, answer("404 Not Found", "", b""), |e| {
            matches!(e, Error::NotFound { part: Part::Manifest, .. }) && !e.is_temporary()
        }),
        ("not now", blob, answer("503 Service Unavailable", "", b""), |e| {
            matches!(e, Error::Status { status: 503, .. }) && e.is_temporary()
        }),
        ("a teapot", blob, answer("418 I'm a teapot", "", br#"{"errors": [{"message": "short"}]}"#), |e| {
            e.to_string().ends_with("answers 418 for the component: short") && !e.is_temporary()
        }),
        (
            "a login in the way of nobody",
            manifest,
            answer("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b""),
            |e| matches!(e, Error::Denied { known: false, .. }),
        ),
        (
            "a token from a place that is none",
            manifest,
            answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"ftp://x/\"\r\n", b""),
            |e| matches!(e, Error::Challenge { .. }),
        ),
        (
            "a token from a place without a server",
            manifest,
            answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"/token\"\r\n", b""),
            |e| matches!(e, Error::Challenge { reason, .. } if reason == "\"/token\" is no place"),
        ),
    ];
    // What is unsigned is seen by what it is.
    let unsigned: Vec<(&str, &str, Vec<u8>, Is)> = vec![
        ("a page", manifest, answer("200 OK", "", b"<html>"), no_module),
        ("an image", manifest, answer("200 OK", "", br#"{"schemaVersion": 2, "config": {"mediaType": "x", "digest": "y", "size": 1}, "layers": []}"#), no_module),
        ("an index", manifest, answer("200 OK", "", br#"{"schemaVersion": 2, "manifests": []}"#), no_module),
    ];
    let unsigned = unsigned.into_iter().map(|row| (trust(&[], true), row));
    let rows = rows.into_iter().map(|row| (trust(&[&ME], false), row)).chain(unsigned);
    for (trust, (what, path, answer, is)) in rows {
        let path = path.to_owned();
        let front = Front::before(&registry, move |head| {
            head.lines().next().is_some_and(|line| line.contains(&path)).then(|| answer.clone())
        });
        let config = Config { idle: Duration::from_millis(700), ..config() };
        let text = tag.replace(registry.address(), front.address());
        let error = Fetcher::with(config).refused(&text, &trust).await;
        assert!(is(&error), "{what}: {error:?}");
        assert!(error.to_string().len() < 500, "{what}: {error}");
    }
    assert_eq!(elsewhere.asked(), Vec::<String>::new(), "a redirect was followed");
}

#[tokio::test]
async fn it_all_has_an_end_even_if_each_wait_may_be_long() {
    let front = Front::alone(|_| Front::HANG.to_vec());
    let limit = Duration::from_millis(300);
    let config = Config { deadline: limit, ..config() };
    assert!(config.idle > 10 * limit);
    let error =
        Fetcher::with(config).refused(&format!("{}/mine:1", front.address()), &trust(&[], true)).await;
    assert!(matches!(error, Error::Deadline { limit: said, .. } if said == limit), "{error}");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn nobody_is_there() {
    let mut registry = Registry::start();
    let pushed = push(&registry, "mine:1").await;
    registry.stop();
    let error = Fetcher::new().refused(&pushed, &trust(&[&ME], true)).await;
    assert!(matches!(error, Error::Unreachable { .. }) && error.is_temporary(), "{error}");
}

/// Many public registries keep their content with somebody else.
#[tokio::test]
async fn a_component_may_come_from_a_host_that_was_allowed() {
    let registry = Registry::start_with(Options { tls: true, ..Options::default() });
    let authorities = vec![registry.authority().to_owned()];
    let here = format!("{}/mine:1", registry.address());
    let encrypted = Config {
        authorities: authorities.clone(),
        encryption: gadgetd_registry::Encryption::Always,
        ..config()
    };
    let client = Client::new(encrypted.clone());
    let about = gadgetd_registry::About::default();
    let pushed = client.push(&reference(&here), MODULE.clone(), &about).await.unwrap();
    let manifest = fs::read(registry.blob(&pushed.to_string())).unwrap();

    // It has the manifest, and sends to the other for the rest. It would like to have the login followed.
    let port = registry.port();
    let front = Front::alone(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path.contains("/manifests/") {
            answer("200 OK", "", &manifest)
        } else {
            answer("307 Temporary Redirect", &format!("Location: https://localhost:{port}{path}\r\n"), b"")
        }
    });
    let text = format!("{}/mine:1", front.address());
    let anybody = trust(&[], true);
    for (hosts, is_allowed) in
        [(&[][..], false), (&["example.com", "localhost"], true), (&["*.localhost"], false)]
    {
        let blob_hosts = hosts.iter().map(ToString::to_string).collect();
        let fetcher = Fetcher::with(Config { blob_hosts, authorities: authorities.clone(), ..config() });
        if is_allowed {
            assert!(fetcher.fetch(&text, &anybody).await.unwrap().bytes == *MODULE);
        } else {
            let error = fetcher.refused(&text, &anybody).await;
            let Error::Redirect { to, part: Part::Layer, .. } = &error else { panic!("{error}") };
            assert_eq!(*to, format!("https://localhost:{port}"));
        }
    }
}

/// With the login, the other one would hand out the component.
#[tokio::test]
async fn a_login_does_not_go_along_to_where_a_registry_sends() {
    let other = Registry::start_with(Options { tls: true, login: true });
    let authorities = vec![other.authority().to_owned()];
    let folder = tempfile::tempdir().unwrap();
    let login = |server: &str| {
        let (user, password) = LOGIN;
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let file = folder.path().join(server.replace(':', "-"));
        fs::write(&file, json!({ "auths": { server: { "auth": auth } } }).to_string()).unwrap();
        Credentials::File(file)
    };
    let config = Config { authorities, blob_hosts: vec!["localhost".into()], ..config() };
    let encrypted = Config {
        credentials: login(other.address()),
        encryption: gadgetd_registry::Encryption::Always,
        ..config.clone()
    };
    let here = format!("{}/mine:1", other.address());
    let about = gadgetd_registry::About::default();
    let pushed = Client::new(encrypted).push(&reference(&here), MODULE.clone(), &about).await.unwrap();
    let manifest = fs::read(other.blob(&pushed.to_string())).unwrap();

    let port = other.port();
    let front = Front::alone(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        if !head.to_lowercase().contains("\r\nauthorization: basic ") {
            answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"")
        } else if path.contains("/manifests/") {
            answer("200 OK", "", &manifest)
        } else {
            answer("307 Temporary Redirect", &format!("Location: https://localhost:{port}{path}\r\n"), b"")
        }
    });
    let fetcher = Fetcher::with(Config { credentials: login(front.address()), ..config });
    let error = fetcher.refused(&format!("{}/mine:1", front.address()), &trust(&[], true)).await;
    let Error::Status { registry, part: Part::Layer, status: 401, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*registry, format!("https://localhost:{port}"));
}
