//! The modules that are a part of gadgetd, run as users run them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use gadgetd_core::{Abi, Capture, Completeness, Container, Loss, Machine, Phases, Syscall, oci};
use gadgetd_host::{
    Fault, Formatter, Gadget, Host, HostConfig, HostError, ModuleError, ModuleRef, Params, Reason, Report,
    Role, Run, RunError, SECCOMP_PROFILE, built_in,
};

fn capture(id: &str, numbers: impl IntoIterator<Item = u32>) -> Capture {
    let call = |number| Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
    Capture {
        container: Container { id: id.into(), name: Some(id.into()), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: numbers.into_iter().map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness { losses: vec![], from_start: true },
    }
}

async fn run(
    host: &Host,
    formatter: &str,
    params: &[&str],
    captures: impl Into<Arc<[Capture]>>,
) -> Result<Report, RunError> {
    let gadget = host.gadget(&ModuleRef::parse("seccomp")).await.unwrap();
    let formatter = host.formatter(&ModuleRef::parse(formatter)).await.unwrap();
    run_loaded(host, &gadget, &formatter, params, captures).await
}

async fn run_loaded(
    host: &Host,
    gadget: &Gadget,
    formatter: &Formatter,
    params: &[&str],
    captures: impl Into<Arc<[Capture]>>,
) -> Result<Report, RunError> {
    let params = Params::resolve(gadget, formatter, params).unwrap();
    let (captures, reason) = (captures.into(), Reason::OnDemand);
    host.run(Run { gadget, formatter, params, captures, reason, target: None, cluster: None }).await
}

fn host() -> Host {
    Host::new(HostConfig::default()).unwrap()
}

#[tokio::test]
async fn every_capture_becomes_a_profile_of_its_calls() {
    let report = run(&host(), "oci", &[], [capture("a", [0, 1]), capture("b", [2])]).await.unwrap();
    let [a, b] = report.documents.as_slice() else { panic!("{report:?}") };
    for (emitted, about, calls) in [(a, 0, ["read", "write"].as_slice()), (b, 1, &["open"])] {
        assert_eq!(emitted.about, [about]);
        assert_eq!(emitted.document.media_type, SECCOMP_PROFILE);
        let policy = oci::parse(emitted.document.body.as_bytes()).unwrap().policy;
        let names = &policy.rules[0].names;
        assert!(calls.iter().all(|call| names.iter().any(|n| n == call)), "{names:?}");
    }
}

#[tokio::test]
async fn the_formatter_is_chosen_for_the_run() {
    let report = run(&host(), "table", &[], [capture("a", [0, 1])]).await.unwrap();
    let document = &report.documents[0].document;
    assert!(document.media_type.starts_with("text/") && document.body.contains("read"), "{document:?}");
}

#[tokio::test]
async fn a_seccomp_profile_object_is_checked_as_a_profile_is() {
    let report = run(&host(), "spo", &["name=cart"], [capture("a", [0, 1])]).await.unwrap();
    let document = &report.documents[0].document;
    assert_eq!(document.media_type, "application/vnd.security-profiles-operator.seccompprofile+yaml");
    assert!(document.body.contains("kind: SeccompProfile\nmetadata:\n  name: cart\n"), "{document:?}");
}

#[tokio::test]
async fn a_verdict_stands_beside_the_documents() {
    let host = host();
    let gadget = host.gadget(&ModuleRef::parse("seccomp-diff")).await.unwrap();
    let formatter = host.formatter(&ModuleRef::parse("oci")).await.unwrap();
    let profile = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let params = [&*format!("against={profile}"), "output=json"];
    let captures = [capture("good", [0]), capture("bad", [0, 1])];
    let report = run_loaded(&host, &gadget, &formatter, &params, captures).await.unwrap();
    let want = [(None, 0), (Some("bad: 1 call would be refused: write"), 1)];
    assert_eq!(report.documents.len(), want.len());
    for ((failure, about), verdict) in want.into_iter().zip(&report.verdicts) {
        assert_eq!((verdict.failure.as_deref(), verdict.about.as_slice()), (failure, [about].as_slice()));
    }
}

#[tokio::test]
async fn a_run_leaves_nothing_behind_for_the_next() {
    let host = host();
    let first = run(&host, "oci", &[], [capture("a", 0..100)]).await.unwrap();
    let second = run(&host, "oci", &[], [capture("a", [0])]).await.unwrap();
    assert!(second.documents[0].document.body.len() < first.documents[0].document.body.len());
    let again = run(&host, "oci", &[], [capture("a", 0..100)]).await.unwrap();
    assert_eq!(first.documents, again.documents);
}

#[tokio::test]
async fn an_empty_capture_is_the_gadgets_error() {
    let error = run(&host(), "oci", &[], [capture("quiet", [])]).await.unwrap_err();
    assert!(matches!(error.fault.fault, Fault::Empty(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("gadget seccomp has nothing") && text.contains("quiet"), "{text}");
}

#[tokio::test]
async fn losses_reach_the_gadget() {
    let mut lossy = capture("lossy", [0]);
    lossy.completeness.losses.push(Loss::SlotsExhausted(7));
    let report = run(&host(), "oci", &[], [lossy]).await.unwrap();
    assert!(!report.log.is_empty(), "an incomplete recording is worth a line");
    assert!(report.log.iter().all(|line| &*line.module == "gadget seccomp"), "{:?}", report.log);
}

#[tokio::test]
async fn more_runs_than_the_pool_holds_wait_for_each_other() {
    let host = Arc::new(host());
    let gadget = host.gadget(&ModuleRef::parse("seccomp")).await.unwrap();
    let formatter = host.formatter(&ModuleRef::parse("oci")).await.unwrap();
    let runs = (0..100).map(|_| {
        let (host, gadget, formatter) = (Arc::clone(&host), gadget.clone(), formatter.clone());
        let captures = [capture("a", [0])];
        tokio::spawn(async move { run_loaded(&host, &gadget, &formatter, &[], captures).await.unwrap() })
    });
    for run in runs.collect::<Vec<_>>() {
        assert_eq!(run.await.unwrap().documents.len(), 1);
    }
}

#[tokio::test]
async fn unknown_modules_are_answered_with_the_known_ones() {
    let host = host();
    let error = host.formatter(&ModuleRef::parse("tabel")).await.unwrap_err();
    let text = error.to_string();
    // The likeliest first, then all the others.
    assert!(text.starts_with(r#"there is no formatter "tabel"; there are: table, "#), "{text}");
    for formatter in built_in(Role::Formatter) {
        assert!(text.contains(formatter), "{text}");
    }
    let error = host.gadget(&ModuleRef::parse("seccmp")).await.unwrap_err();
    assert!(error.to_string().contains("there are: seccomp, seccomp-diff"), "{error}");
}

#[tokio::test]
async fn modules_describe_themselves() {
    let host = host();
    for name in built_in(Role::Formatter) {
        let formatter = host.formatter(&ModuleRef::parse(name)).await.unwrap();
        assert_eq!(formatter.name(), name);
        assert!(!formatter.description().summary.is_empty());
    }
    for name in built_in(Role::Gadget) {
        let gadget = host.gadget(&ModuleRef::parse(name)).await.unwrap();
        assert_eq!(gadget.name(), name);
        assert_eq!(gadget.digest().to_string().len(), "sha256:".len() + 64);
    }
}

async fn cached(dir: &Path) -> Gadget {
    let host = Host::new(HostConfig { cache_dir: Some(dir.to_owned()), ..HostConfig::default() }).unwrap();
    host.gadget(&ModuleRef::parse("seccomp")).await.unwrap()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn compiled_modules_are_kept_and_damaged_ones_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/cache");
    cached(&dir).await;
    let [file] = files(&dir).try_into().expect("one file");
    let good = fs::read(&file).unwrap();
    let made = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let first = made(&file);
    cached(&dir).await;
    assert_eq!(made(&file), first, "the second time it is only read");

    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for damage in [&flipped[..], b"", &good[..100], b"not machine code, but long enough to hold a checksum"] {
        fs::write(&file, damage).unwrap();
        cached(&dir).await;
        assert_eq!(fs::read(&file).unwrap().len(), good.len(), "the damaged file is replaced");
    }

    // Anybody could have written this one.
    fs::write(&file, &good).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    cached(&dir).await;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // Nor is another module's code used under this one's name.
    let host = Host::new(HostConfig { cache_dir: Some(dir.clone()), ..HostConfig::default() }).unwrap();
    host.formatter(&ModuleRef::parse("oci")).await.unwrap();
    let other = files(&dir).into_iter().find(|f| *f != file).expect("the formatter's file");
    fs::copy(&other, &file).unwrap();
    assert_eq!(cached(&dir).await.name(), "seccomp");
    assert_ne!(fs::read(&file).unwrap(), fs::read(&other).unwrap());
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let config = HostConfig { cache_dir: Some(dir.path().to_owned()), ..HostConfig::default() };
        let Err(error @ HostError::Cache(_)) = Host::new(config) else { panic!("{mode:o} is taken") };
        assert!(error.to_string().contains("writable by nobody else"), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let host = host();
    for path in ["./does-not-exist.wasm", "/"] {
        let error = host.gadget(&ModuleRef::parse(path)).await.unwrap_err();
        assert!(matches!(error, ModuleError::Read { .. }), "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
}
