//! Modules in every language: made by `gadgetd module new`, built by `gadgetd module build`, run by the host. And the
//! examples in `gadgets/examples`, which are projects of the same form.

mod support;

use std::{fs, process::Command, sync::LazyLock, time::Duration};

use gadgetd_artifacts::target_dir;
use gadgetd_core::{Abi, Capture, Completeness, Container, Loss, Machine, Phases, Pod, Syscall};
use gadgetd_host::{
    AnyModule, Fault, Formatter, Gadget, Host, HostConfig, Level, Limits, ModuleRef, Params, Reason, Report,
    Run, RunError,
};
use support::project::{Project, module, output};

/// A host with the limits that modules have everywhere. Only time to compile is given away: the machine may be busy.
static HOST: LazyLock<Host> = LazyLock::new(|| {
    let limits = Limits { compile: Duration::from_mins(10), ..Limits::default() };
    Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap()
});

fn call(abi: Abi, number: u32, phases: Phases) -> Syscall {
    Syscall { abi, number, phases }
}

/// A container with a bit of everything.
fn capture() -> Capture {
    Capture {
        container: Container {
            id: "4711".into(),
            name: Some("app".into()),
            pod: Some(Pod {
                namespace: "shop".into(),
                name: "cart-0".into(),
                uid: "u".into(),
                node: "n".into(),
            }),
            image: Some("registry.example/cart:1.0".into()),
            ..Container::default()
        },
        machine: Machine::X86_64,
        syscalls: vec![
            call(Abi::Native, 0, Phases::APPLICATION),
            call(Abi::Native, 59, Phases::RUNTIME),
            call(Abi::Native, 257, Phases::BOTH),
            call(Abi::Compat, 13, Phases::APPLICATION),
            call(Abi::Compat, 9999, Phases::APPLICATION),
        ],
        refused: Vec::new(),
        completeness: Completeness { losses: vec![Loss::ChildCgroups(2)], from_start: true },
    }
}

/// The module runs by itself: it imports the contract, and nothing of a system that it does not have.
async fn check_imports(module: &ModuleRef) {
    let module: AnyModule = HOST.module(module).await.unwrap();
    for (interface, _) in module.imports() {
        assert!(interface.starts_with("gadget:framework/"), "it imports {interface}");
    }
}

async fn run(
    gadget: &Gadget,
    formatter: &Formatter,
    params: &[&str],
    capture: Capture,
) -> Result<Report, RunError> {
    let params = Params::resolve(gadget, formatter, params).unwrap();
    let (captures, reason) = ([capture].into(), Reason::OnDemand);
    HOST.run(Run { gadget, formatter, params, captures, reason, target: None, cluster: None }).await
}

/// The one document of a run that must succeed.
fn only(report: &Report) -> (&str, &str) {
    let [emitted] = report.documents.as_slice() else { panic!("{report:?}") };
    (&emitted.document.media_type, &emitted.document.body)
}

/// What the templates of gadgets do.
async fn a_gadget_of(language: &str) {
    let project = Project::new(language, "gadget");
    let Some(module) = project.build() else { return };
    check_imports(&module).await;
    let gadget = HOST.gadget(&module).await.unwrap();
    assert_eq!((gadget.name(), gadget.description().params.len()), ("my-own", 1));
    let formatter = HOST.formatter(&ModuleRef::parse("oci")).await.unwrap();

    for (params, text) in [
        (
            [].as_slice(),
            "shop/cart-0/app: 5 system calls\n  read\n  execve\n  openat\n  time (compat)\n  number 9999 (compat)\n",
        ),
        (&["phase=runtime"], "shop/cart-0/app: 2 system calls\n  execve\n  openat\n"),
    ] {
        let report = run(&gadget, &formatter, params, capture()).await.unwrap();
        assert_eq!(only(&report), ("text/plain", text));
        let [line] = report.log.as_slice() else { panic!("{:?}", report.log) };
        assert_eq!((line.level, &*line.message), (Level::Warn, "the recording is incomplete"));
    }
    let quiet = Capture { syscalls: Vec::new(), ..capture() };
    let error = run(&gadget, &formatter, &[], quiet).await.unwrap_err();
    assert!(matches!(&error.fault.fault, Fault::Empty(name) if name == "shop/cart-0/app"), "{error}");
}

/// What the templates of formatters do.
async fn a_formatter_of(language: &str) {
    let project = Project::new(language, "formatter");
    let Some(module) = project.build() else { return };
    check_imports(&module).await;
    let formatter = HOST.formatter(&module).await.unwrap();
    assert_eq!((formatter.name(), formatter.description().params.len()), ("my-own", 1));
    let gadget = HOST.gadget(&ModuleRef::parse("seccomp")).await.unwrap();

    let report = run(&gadget, &formatter, &["default-errno=38"], capture()).await.unwrap();
    let (media_type, text) = only(&report);
    assert_eq!(media_type, "text/plain");
    let head = "default errno=38\narchitectures x86-64 x86 x32\nallow ";
    assert!(text.starts_with(head) && text.ends_with("\nallow time\n"), "{text}");
    let lines = text.lines().count();

    let report = run(&gadget, &formatter, &["one-line=true"], capture()).await.unwrap();
    let (_, text) = only(&report);
    let [default, _, allow] = *text.lines().collect::<Vec<_>>() else { panic!("{text}") };
    assert_eq!((default, allow.split(' ').count()), ("default errno", lines - 1));
    assert!(allow.contains(" openat read ") && allow.ends_with(" time"), "{text}");
}

macro_rules! templates {
    ($($gadget:ident $formatter:ident $language:literal;)+) => {
        $(
            #[tokio::test]
            async fn $gadget() {
                a_gadget_of($language).await;
            }

            #[tokio::test]
            async fn $formatter() {
                a_formatter_of($language).await;
            }
        )+
    };
}

templates! {
    a_gadget_in_rust a_formatter_in_rust "rust";
    a_gadget_in_python a_formatter_in_python "python";
    a_gadget_in_javascript a_formatter_in_javascript "js";
    a_gadget_in_c a_formatter_in_c "c";
}

#[test]
fn a_project_in_rust_passes_its_own_tests() {
    for kind in ["gadget", "formatter"] {
        let project = Project::new("rust", kind);
        let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        test.args(["test", "--quiet"]).current_dir(&project.folder);
        test.env("CARGO_TARGET_DIR", target_dir().join("artifacts/projects"));
        let (tested, said) = output(&mut test);
        let told = String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success() && told.contains("2 passed"), "{told}{said}");
    }
}

/// An example that is a formatter, and what it makes of the capture.
async fn example_formatter(name: &str, params: &[&str]) -> Option<Result<Report, RunError>> {
    let project = Project::example(name);
    let module = project.build()?;
    check_imports(&module).await;
    let formatter = HOST.formatter(&module).await.unwrap();
    assert_eq!(formatter.name(), name);
    let gadget = HOST.gadget(&ModuleRef::parse("seccomp")).await.unwrap();
    Some(run(&gadget, &formatter, params, capture()).await)
}

#[tokio::test]
async fn the_example_in_python_writes_a_report() {
    let params = ["exclude=read", "include=mkdir", "heading=1"];
    let Some(report) = example_formatter("markdown", &params).await else { return };
    assert_eq!(only(&report.unwrap()), ("text/markdown", include_str!("projects/markdown.md")));
}

#[tokio::test]
async fn the_example_in_javascript_writes_a_table() {
    let params = ["exclude=read", "include=mkdir", "separator=semicolon"];
    let Some(report) = example_formatter("csv", &params).await else { return };
    let report = report.unwrap();
    let (media_type, table) = only(&report);
    assert_eq!(media_type, "text/csv");
    assert_eq!(table.matches('\n').count(), table.matches("\r\n").count(), "RFC 4180 ends lines with both");
    assert_eq!(table.replace("\r\n", "\n"), include_str!("projects/csv.csv"));
}

#[tokio::test]
async fn the_example_in_c_counts() {
    let project = Project::example("metrics");
    let Some(module) = project.build() else { return };
    check_imports(&module).await;
    let gadget = HOST.gadget(&module).await.unwrap();
    let formatter = HOST.formatter(&ModuleRef::parse("oci")).await.unwrap();
    let mut odd = capture();
    odd.container.name = Some("a\"b\\c\n".into());
    let report = run(&gadget, &formatter, &["prefix=audit"], odd).await.unwrap();
    assert_eq!(only(&report), ("text/plain", include_str!("projects/metrics.prom")));
    let error = run(&gadget, &formatter, &["prefix=2nd"], capture()).await.unwrap_err();
    assert!(matches!(&error.fault.fault, Fault::InvalidParameter(why) if why.contains("2nd")), "{error}");
}

#[test]
fn nothing_is_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let new = ["new", "mine", "--lang", "c", "--kind", "gadget"];
    fs::create_dir(parent.path().join("mine")).unwrap();
    let (made, said) = output(&mut module(parent.path(), &new));
    assert!(made.status.success(), "an empty folder will do: {said}");
    fs::write(parent.path().join("mine/main.c"), "my work").unwrap();
    let (again, said) = output(&mut module(parent.path(), &new));
    assert!(
        !again.status.success() && said.contains("mine is not empty, and nothing is overwritten"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(parent.path().join("mine/main.c")).unwrap(), "my work");
}

#[test]
fn what_is_wrong_with_a_project_is_said() {
    let parent = tempfile::tempdir().unwrap();
    let (_, said) = output(&mut module(parent.path(), &["build"]));
    assert!(said.contains("it has none of Cargo.toml, package.json, app.py, Makefile"), "{said}");
    let (_, said) = output(&mut module(parent.path(), &["build", "nowhere"]));
    assert!(said.contains("there is no folder nowhere"), "{said}");
    let name = ["new", "My_Own", "--lang", "js", "--kind", "gadget"];
    let (refused, said) = output(&mut module(parent.path(), &name));
    assert!(refused.status.code() == Some(2) && said.contains("a name has lower-case words"), "{said}");
}

#[test]
fn missing_tools_are_named_with_the_way_to_get_them() {
    for (language, says) in [
        (
            "python",
            "componentize-py is missing; install it: python3 -m venv .venv && .venv/bin/pip install -r",
        ),
        ("js", "npm is missing; install it: Node.js 20 or newer"),
        ("c", "make is missing; install it: on Debian: apt-get install make"),
    ] {
        let project = Project::new(language, "gadget");
        let mut build = module(&project.folder, &["build"]);
        // Nor what `cargo install` has put where it puts things.
        build.env("PATH", "/nowhere").env("CARGO_HOME", "/nowhere");
        let (outcome, said) = output(&mut build);
        assert!(outcome.status.code() == Some(1) && said.contains(says), "{said}");
    }
}
