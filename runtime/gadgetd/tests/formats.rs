//! One recording, written down by every formatter, and each result read by what reads it in real life.
//!
//! `recordings/web.json` is nginx in a container of runc, asked for a page that is there and for one that is not:
//! `gadgetd run seccomp --cgroup /web --record web.json`, and then `runc run web`.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use gadgetd_core::spo;
use gadgetd_fidelity::container::{Container, Rootfs, Runtime, Settings, Shape};
use gadgetd_host::{Host, HostConfig, Matching, ModuleRef, Role, built_in, recording::Recording};
use support::{gadgetd, installed, start};

/// What each formatter that is built in makes of the recording.
async fn documents() -> BTreeMap<&'static str, String> {
    let recording = Recording::read(Path::new("tests/recordings/web.json")).unwrap();
    let host = Host::new(HostConfig::default()).unwrap();
    let gadget = host.gadget(&ModuleRef::parse("seccomp")).await.unwrap();
    let mut documents = BTreeMap::new();
    for name in built_in(Role::Formatter) {
        let formatter = host.formatter(&ModuleRef::BuiltIn(name.into())).await.unwrap();
        let replayed = host.replay(&recording, &gadget, &formatter, Matching::Exact).await.unwrap();
        let report = replayed.result.unwrap_or_else(|error| panic!("{name}: {error}"));
        let [only] = &report.documents[..] else { panic!("{name}: {report:?}") };
        documents.insert(name, only.document.body.clone());
    }
    documents
}

#[tokio::test]
async fn every_format_stays_as_it_is() {
    let documents = documents().await;
    assert_eq!(self::documents().await, documents, "another host, the same bytes");
    for (name, document) in documents {
        insta::assert_snapshot!(format!("web_{name}"), document);
    }
}

#[tokio::test]
async fn every_format_is_taken_by_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    for (name, document) in documents().await {
        match name {
            "html" => in_a_browser(folder.path(), &document),
            "oci" => {
                by_the_kernel(folder.path(), &document);
                by_runc(folder.path(), &document);
            }
            "spo" => by_the_operator(&document),
            "systemd" => by_systemd(folder.path(), &document),
            // For people: the snapshot is what there is to say.
            "table" => {}
            other => panic!("who reads what the formatter {other} writes?"),
        }
    }
}

/// As the seccomp filter of a process.
fn by_the_kernel(folder: &Path, document: &str) {
    let profile = folder.join("profile.json");
    fs::write(&profile, document).unwrap();
    let confined = |command: &[&str]| {
        let confine = ["confine", "--profile", profile.to_str().unwrap(), "--"];
        start(&mut gadgetd([&confine[..], command].concat())).finish()
    };
    confined(&["nginx", "-v"]).code(0).says("nginx version");
    // A web server makes no pipes with names.
    confined(&["mkfifo", profile.with_extension("pipe").to_str().unwrap()])
        .code(1)
        .says("Operation not permitted");
}

/// As the profile of a container, by the runtime that ran the one that was recorded.
fn by_runc(folder: &Path, document: &str) {
    if !installed("runc") {
        return;
    }
    let profile = serde_json::from_str(document).unwrap();
    let rootfs = Rootfs::build(folder).unwrap();
    for settings in Settings::all(Shape::Plain).into_iter().filter(|settings| settings.user == 0) {
        let container = Container::new(&rootfs, Runtime::RUNC, settings).unwrap();
        let run = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            container.run(&words, Some(&profile)).unwrap()
        };
        let started = run(&["nginx", "-v"]);
        assert!(started.status.success() && started.stderr.contains("nginx version"), "{started:?}");
        let refused = run(&["mkfifo", "/tmp/pipe"]);
        assert!(refused.stderr.contains("Operation not permitted"), "{refused:?}");
    }
}

fn by_the_operator(document: &str) {
    let object = serde_saphyr::from_str(document).unwrap();
    let policy = spo::parse(object).unwrap();
    policy.validate().unwrap();
    assert!(policy.rules[0].names.iter().any(|name| name == "accept4"), "{policy:?}");
}

fn by_systemd(folder: &Path, document: &str) {
    if !installed("systemd-analyze") {
        return;
    }
    let unit = folder.join("web.service");
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    fs::create_dir(folder.join("web.service.d")).unwrap();
    fs::write(folder.join("web.service.d/seccomp.conf"), document).unwrap();
    let mut command = Command::new("systemd-analyze");
    // The units of this machine as well, but ours first.
    command
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.display()))
        .args(["verify", "--man=no"])
        .arg(&unit);
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success() && !said.contains("seccomp.conf"), "{said}");

    // What the unit says itself does not weaken the drop-in.
    let alone = filters("", document);
    assert!(alone.iter().any(|check| check["description"].to_string().contains("allow list")), "{alone:?}");
    for unit in [
        "SystemCallFilter=~@mount @reboot\n",
        "SystemCallFilter=@system-service @mount\n",
        "SystemCallArchitectures=native x86 x32\n",
        "SystemCallErrorNumber=ENOSYS\nSystemCallFilter=~ptrace:kill\n",
    ] {
        assert_eq!(filters(unit, document), alone, "{unit}");
    }
}

/// What systemd makes of the filters of a unit with a drop-in.
fn filters(unit: &str, drop_in: &str) -> Vec<serde_json::Value> {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(units.join("x.service.d")).unwrap();
    fs::write(units.join("x.service"), format!("[Service]\nExecStart=/bin/true\n{unit}")).unwrap();
    fs::write(units.join("x.service.d/seccomp.conf"), drop_in).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.arg(format!("--root={}", root.path().display()));
    let output = command.args(["--offline=true", "--json=short", "security", "x.service"]).output().unwrap();
    let checks: Vec<serde_json::Value> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    checks.into_iter().filter(|check| check["json_field"].to_string().contains("SystemCall")).collect()
}

fn in_a_browser(folder: &Path, document: &str) {
    if !installed("chromium") {
        return;
    }
    let page = folder.join("page.html");
    fs::write(&page, document).unwrap();
    let mut command = Command::new("chromium");
    // Root, as whom these tests run, has no sandbox there; nothing is fetched, for the page is whole.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"]);
    command.arg(format!("--user-data-dir={}", folder.join("browser").display()));
    let Output { status, stdout, stderr } =
        command.arg(format!("file://{}", page.display())).output().unwrap();
    let (dom, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{said}");
    assert!(dom.contains("</html>") && dom.contains("accept4"), "{dom}");
    assert!(!said.contains("CONSOLE"), "the page has something to complain of: {said}");
}
