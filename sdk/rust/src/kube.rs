//! Kubernetes, call by call: see [`Run::kube`](crate::Run::kube).
//!
//! A call passes only if the gadget asks for it in its description and the cluster grants it. Objects are JSON text,
//! as the API server has them; of an object's metadata a gadget writes `name`, `namespace`, `labels` and
//! `annotations`, and the host adds where the object comes from.
//!
//! ```
//! use gadget_sdk::{Capture, Description, Error, Gadget, Module, Run, kube, module::Verb};
//!
//! /// Notes in a `ConfigMap` of its namespace how many system calls each pod makes.
//! struct Note;
//!
//! impl Module for Note {
//!     fn describe() -> Description {
//!         Description::new("note", env!("CARGO_PKG_VERSION"), "Counts system calls, for others to read.")
//!             .capability("", "configmaps", &[Verb::Apply])
//!     }
//! }
//!
//! impl Gadget for Note {
//!     fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
//!         let served = run.kube().discover("", "configmaps")?;
//!         let kind = served.first().ok_or(kube::Error::NotFound("configmaps".into()))?;
//!         for capture in captures {
//!             let Some(pod) = &capture.container().pod else { continue };
//!             let (name, count) = (&pod.name, capture.syscalls().len());
//!             let object = format!(
//!                 r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}},
//!                     "data": {{"syscalls": "{count}"}}}}"#
//!             );
//!             run.kube().apply(kind, Some(&pod.namespace), &object)?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // In a test, a script answers:
//! use gadget_sdk::testing::{self, KubeAnswer, KubeCall};
//!
//! let web = testing::capture("web").pod("shop", "web-0").build();
//! let run = testing::gadget::<Note>()
//!     .kube(|call| match call {
//!         KubeCall::Discover { .. } => Ok(KubeAnswer::Kinds(vec![testing::kind(
//!             "", "v1", "configmaps", "ConfigMap", true,
//!         )])),
//!         KubeCall::Apply { object, .. } => Ok(KubeAnswer::Object(object.clone())),
//!         other => panic!("{other:?}"),
//!     })
//!     .run(vec![web]);
//! assert_eq!(run.result, Ok(()));
//! assert!(matches!(&run.calls[1], KubeCall::Apply { namespace: Some(n), .. } if n == "shop"));
//! ```

pub use crate::bindings::imports::kube::{Error, Kind};
#[cfg(target_arch = "wasm32")]
use crate::host::Host as _;
use crate::host::HostRef;

/// The cluster, as far as a run may use it.
pub struct Kube<'a> {
    pub(crate) host: HostRef<'a>,
}

impl Kube<'_> {
    /// The versions in which a kind is served, the preferred one first; none where it is not installed. The core
    /// group is `""`.
    pub fn discover(&mut self, group: &str, plural: &str) -> Result<Vec<Kind>, Error> {
        self.host.discover(group, plural)
    }

    /// One object.
    pub fn get(&mut self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<String, Error> {
        self.host.get(kind, namespace, name)
    }

    /// The objects with these labels (`a=b,c`; empty: all), of one namespace or of all.
    pub fn list(&mut self, kind: &Kind, namespace: Option<&str>, labels: &str) -> Result<Vec<String>, Error> {
        self.host.list(kind, namespace, labels)
    }

    /// Makes an object that is not there yet; [`Error::Conflict`] if it is, unless this very run had made it
    /// before something interrupted it.
    pub fn create(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, Error> {
        self.host.create(kind, namespace, object)
    }

    /// Server-side apply: makes an object, or those of its fields that are given, what is given. The field manager
    /// is the gadget; what others own is a [`Error::Conflict`].
    pub fn apply(&mut self, kind: &Kind, namespace: Option<&str>, object: &str) -> Result<String, Error> {
        self.host.apply(kind, namespace, object)
    }
}

impl Kind {
    /// As objects have it: `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}
