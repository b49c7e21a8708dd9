//! A host with tight limits, and runs on it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod cluster;

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use gadgetd_core::{Abi, Capture, Completeness, Container, Machine, Phases, Syscall};
use gadgetd_host::{
    Formatter, Gadget, Host, HostConfig, Limits, ModuleRef, Params, Reason, Report, Run, RunError,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The host of all tests of a binary: what one guest does to it, the next would feel.
pub(crate) static HOST: LazyLock<Host> = LazyLock::new(|| {
    let limits = Limits {
        call: Duration::from_millis(300),
        kube_call: Duration::from_millis(200),
        kube_answer: 1 << 20,
        output: 1 << 20,
        log_lines: 50,
        log_bytes: 64 << 10,
        ..Limits::default()
    };
    Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap()
});

/// A component as a file, for as long as this lives.
pub(crate) struct Guest {
    _dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Guest {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{name}.wasm"));
        std::fs::write(&path, content).unwrap();
        Self { _dir: dir, path }
    }

    pub(crate) fn module(&self) -> ModuleRef {
        ModuleRef::File(self.path.clone())
    }
}

pub(crate) fn captures() -> Vec<Capture> {
    let call = |number| Syscall { abi: Abi::Native, number, phases: Phases::APPLICATION };
    let capture = |id: &str, numbers: &[u32]| Capture {
        container: Container { id: id.into(), ..Container::default() },
        machine: Machine::X86_64,
        syscalls: numbers.iter().copied().map(call).collect(),
        refused: Vec::new(),
        completeness: Completeness::default(),
    };
    vec![capture("first", &[0, 1]), capture("second", &[2])]
}

pub(crate) async fn run(gadget: &Gadget, formatter: &Formatter) -> Result<Report, RunError> {
    let params = Params::resolve(gadget, formatter, [""; 0]).unwrap();
    let (captures, reason) = (captures().into(), Reason::OnDemand);
    let api = Arc::new(cluster::Memory::default());
    let cluster = Some(cluster::granting(&api, vec![cluster::things(&cluster::ALL)]));
    HOST.run(Run { gadget, formatter, params, captures, reason, target: None, cluster }).await
}

/// The built-in gadget and formatter.
pub(crate) async fn built_in() -> &'static (Gadget, Formatter) {
    static LOADED: OnceCell<(Gadget, Formatter)> = OnceCell::const_new();
    let load = || async {
        let gadget = HOST.gadget(&ModuleRef::parse("seccomp")).await.unwrap();
        (gadget, HOST.formatter(&ModuleRef::parse("oci")).await.unwrap())
    };
    LOADED.get_or_init(load).await
}

/// The host does its work as if nothing had happened.
pub(crate) async fn assert_host_is_well() {
    let (gadget, formatter) = built_in().await;
    let report = run(gadget, formatter).await.expect("good modules run");
    assert_eq!(report.documents.len(), captures().len());
}
