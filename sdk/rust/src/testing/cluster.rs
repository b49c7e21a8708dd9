//! A cluster that answers as a script says.

use crate::kube;

pub(super) type Script = Box<dyn Fn(&KubeCall) -> Result<KubeAnswer, kube::Error>>;

/// A call to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // As in `kube::Kube`.
pub enum KubeCall {
    Discover { group: String, plural: String },
    Get { kind: kube::Kind, namespace: Option<String>, name: String },
    List { kind: kube::Kind, namespace: Option<String>, labels: String },
    Create { kind: kube::Kind, namespace: Option<String>, object: String },
    Apply { kind: kube::Kind, namespace: Option<String>, object: String },
}

/// What a scripted cluster answers: of the kind that the call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KubeAnswer {
    Kinds(Vec<kube::Kind>),
    Object(String),
    Objects(Vec<String>),
}

/// A kind of object, such as `("apps", "v1", "deployments", "Deployment", true)`.
pub fn kind(group: &str, version: &str, plural: &str, name: &str, namespaced: bool) -> kube::Kind {
    kube::Kind {
        group: group.into(),
        version: version.into(),
        plural: plural.into(),
        name: name.into(),
        namespaced,
    }
}
