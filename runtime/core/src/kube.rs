//! Kubernetes, as gadgets and what writes for them reach it: call by call, each one checked.
//!
//! [`KubeApi`] is what an adapter implements. [`Guard`] stands before it: a call passes if the module asked for it
//! **and** the cluster granted it, in the namespace that the run may touch, within its budget.
//!
//! ```
//! use std::sync::Arc;
//!
//! use gadgetd_core::kube::{Call, Grant, Granted, Guard, Names, Permission, Verb};
//!
//! let grant = Grant {
//!     group: "apps".into(),
//!     plural: "deployments".into(),
//!     verbs: vec![Verb::Get],
//!     namespaces: Names::These(vec!["shop".into()]),
//!     names: Names::Any,
//! };
//! let everywhere = Grant { namespaces: Names::Any, ..grant.clone() };
//! let mut guard = Guard::new(Permission {
//!     asked: vec![everywhere],
//!     granted: Arc::new(Granted { grants: vec![grant], calls: 10 }),
//!     confined_to: None,
//! });
//! let get = |namespace| Call {
//!     verb: Verb::Get,
//!     group: "apps",
//!     plural: "deployments",
//!     namespace: Some(namespace),
//!     name: Some("cart"),
//! };
//! assert!(guard.admit(&get("shop"), true).is_ok());
//! assert!(guard.admit(&get("bank"), true).is_err());
//! ```

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The names say it.
pub enum Verb {
    Discover,
    Get,
    List,
    Create,
    Apply,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "discover",
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Apply => "apply",
        })
    }
}

/// A kind of object, in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The version.
    pub version: String,
    /// The name in paths: `seccompprofiles`.
    pub plural: String,
    /// The kind: `SeccompProfile`.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// As objects have it: `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// Why a call gave no answer. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubeError {
    /// The module did not ask for it, the cluster did not grant it, or the API server forbade it.
    #[error("denied: {0}")]
    Denied(String),
    /// There is no such object, kind or namespace.
    #[error("not found: {0}")]
    NotFound(String),
    /// It is there already, or changed meanwhile.
    #[error("conflict: {0}")]
    Conflict(String),
    /// It cannot be what it is meant to be.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The answer has more bytes than this, which is what a call may give.
    #[error("the answer has more than {0} bytes: ask for less")]
    TooLarge(usize),
    /// The API server cannot be reached, or cannot answer now.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// No answer in time; the call may have had its effect.
    #[error("no answer in time: {0}")]
    Deadline(String),
}

/// An answer to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, KubeError>> + Send + 'a>>;

/// The calls. Objects are JSON as the API server has them. Whoever implements it bounds what an answer may weigh.
pub trait KubeApi: Send + Sync {
    /// The versions in which a kind is served, the preferred one first; none where it is not installed.
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>>;

    /// One object.
    fn get<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        name: &'a str,
    ) -> Answer<'a, Value>;

    /// The objects with these labels (`a=b,c`; empty: all), of one namespace or of all.
    fn list<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        labels: &'a str,
    ) -> Answer<'a, Vec<Value>>;

    /// Makes an object that is not there yet; [`KubeError::Conflict`] if it is.
    fn create<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        object: Value,
    ) -> Answer<'a, Value>;

    /// Server-side apply: makes an object, or the fields given in it, what is given.
    fn apply<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        object: Value,
    ) -> Answer<'a, Value>;
}

/// A set of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// All.
    Any,
    /// These.
    These(Vec<String>),
}

impl Names {
    fn has(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|n| n == name),
        }
    }
}

/// A permission: what a module asks for in its description, and what a cluster grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The API group.
    pub group: String,
    /// The resource, as its plural.
    pub plural: String,
    /// What may be done. [`Verb::Discover`] goes with any other.
    pub verbs: Vec<Verb>,
    /// In which namespaces. Objects without a namespace are in none, and need [`Names::Any`].
    pub namespaces: Names,
    /// To objects of which names. To list is about no name, and needs [`Names::Any`].
    pub names: Names,
}

impl Grant {
    fn covers(&self, call: &Call<'_>) -> bool {
        let verb = match call.verb {
            Verb::Discover => !self.verbs.is_empty(),
            verb => self.verbs.contains(&verb),
        };
        let everywhere = call.verb == Verb::Discover;
        let namespace = call.namespace.map_or(self.namespaces == Names::Any, |n| self.namespaces.has(n));
        let name = call.name.map_or(self.names == Names::Any, |n| self.names.has(n));
        self.group == call.group && self.plural == call.plural && verb && (everywhere || namespace && name)
    }
}

/// What a cluster grants a module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The permissions.
    pub grants: Vec<Grant>,
    /// How many calls one run may make, granted or not.
    pub calls: u32,
}

/// Says what is granted. It is asked at every call: what changes takes effect at the next, also within a run.
pub trait Granting: fmt::Debug + Send + Sync {
    /// What is granted now.
    fn granted(&self) -> Arc<Granted>;
}

/// What never changes.
impl Granting for Granted {
    fn granted(&self) -> Arc<Granted> {
        Arc::new(self.clone())
    }
}

/// A call, as the audit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// What was to be done.
    pub verb: Verb,
    /// The API group.
    pub group: &'a str,
    /// The resource, as its plural.
    pub plural: &'a str,
    /// The namespace, if one was named.
    pub namespace: Option<&'a str>,
    /// The object's name, if the call is about one.
    pub name: Option<&'a str>,
}

impl fmt::Display for Call<'_> {
    /// `create seccompprofiles.security-profiles-operator.x-k8s.io shop/cart`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.plural)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match (self.namespace, self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (Some(namespace), None) => write!(f, " {namespace}/"),
            (None, Some(name)) => write!(f, " {name}"),
            (None, None) => Ok(()),
        }
    }
}

/// What one run may do.
#[derive(Clone, Debug)]
pub struct Permission {
    /// What the module asks for.
    pub asked: Vec<Grant>,
    /// What the cluster grants it.
    pub granted: Arc<dyn Granting>,
    /// The only namespace that the run may touch; `None`: any. An object without a namespace must then have a name
    /// that begins with `<namespace>.`, which no other namespace can begin with, and may only be read or made.
    pub confined_to: Option<String>,
}

/// Decides about the calls of one run.
#[derive(Debug)]
pub struct Guard {
    permission: Permission,
    calls: u32,
}

impl Guard {
    /// For a run that may do this.
    pub fn new(permission: Permission) -> Self {
        Self { permission, calls: 0 }
    }

    /// Whether the call may be made. It counts against the budget either way. `namespaced` is whether objects of its
    /// kind live in namespaces.
    pub fn admit(&mut self, call: &Call<'_>, namespaced: bool) -> Result<(), KubeError> {
        let denied = |reason: String| Err(KubeError::Denied(format!("{call}: {reason}")));
        let granted = self.permission.granted.granted();
        self.calls = self.calls.saturating_add(1);
        if self.calls > granted.calls {
            return denied(format!("the run has made its {} calls", granted.calls));
        }
        if !self.permission.asked.iter().any(|g| g.covers(call)) {
            return denied("the module does not ask for it".into());
        }
        if !granted.grants.iter().any(|g| g.covers(call)) {
            return denied("the cluster does not grant it".into());
        }
        let Some(only) = self.permission.confined_to.as_deref() else { return Ok(()) };
        let inside = match call.verb {
            Verb::Discover => true,
            _ if namespaced => call.namespace == Some(only),
            Verb::Get | Verb::Create => {
                let rest = call.name.and_then(|n| n.strip_prefix(only)).and_then(|n| n.strip_prefix('.'));
                rest.is_some_and(|rest| !rest.is_empty())
            }
            Verb::List | Verb::Apply => false,
        };
        if inside { Ok(()) } else { denied(format!("the run may only touch namespace {only}")) }
    }

    /// How many calls the run may make, as of now.
    pub fn calls(&self) -> u32 {
        self.permission.granted.granted().calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(verbs: &[Verb], namespaces: Names, names: Names) -> Grant {
        Grant { group: "g".into(), plural: "profiles".into(), verbs: verbs.to_vec(), namespaces, names }
    }

    const ALL: [Verb; 5] = [Verb::Discover, Verb::Get, Verb::List, Verb::Create, Verb::Apply];

    /// Whether it may call, with what a call of this verb names.
    fn admit(
        guard: &mut Guard,
        verb: Verb,
        namespace: Option<&str>,
        name: &'static str,
    ) -> Result<(), KubeError> {
        let (namespace, name) = match verb {
            Verb::Discover => (None, None),
            Verb::List => (namespace, None),
            _ => (namespace, Some(name)),
        };
        let call = Call { verb, group: "g", plural: "profiles", namespace, name };
        guard.admit(&call, namespace.is_some())
    }

    fn granted(grant: Grant, calls: u32) -> Arc<Granted> {
        Arc::new(Granted { grants: vec![grant], calls })
    }

    fn permission(asked: Grant, grant: Grant) -> Permission {
        Permission { asked: vec![asked], granted: granted(grant, 100), confined_to: None }
    }

    #[test]
    fn every_verb_allowed_and_denied_in_every_namespace() {
        let everything = || grant(&ALL, Names::Any, Names::Any);
        let shop = || Names::These(vec!["shop".into()]);
        for verb in ALL {
            // Asked for, granted → allowed in shop, in bank, without a namespace.
            let only = grant(&[verb], Names::Any, Names::Any);
            let others: Vec<_> = ALL.into_iter().filter(|v| *v != verb).collect();
            let discover = verb == Verb::Discover;
            let none = [discover; 3];
            let in_shop = [true, discover, discover];
            let rows = [
                (everything(), everything(), [true; 3]),
                (only.clone(), only.clone(), [true; 3]),
                (everything(), grant(&others, Names::Any, Names::Any), none),
                (grant(&others, Names::Any, Names::Any), everything(), none),
                (everything(), grant(&[], Names::Any, Names::Any), [false; 3]),
                (everything(), grant(&ALL, shop(), Names::Any), in_shop),
                (grant(&ALL, shop(), Names::Any), everything(), in_shop),
                (everything(), grant(&ALL, Names::Any, Names::These(vec!["other".into()])), none),
                (everything(), Grant { group: "h".into(), ..everything() }, [false; 3]),
                (everything(), Grant { plural: "pods".into(), ..everything() }, [false; 3]),
            ];
            for (asked, granted, want) in rows {
                for (namespace, want) in [Some("shop"), Some("bank"), None].into_iter().zip(want) {
                    let mut guard = Guard::new(permission(asked.clone(), granted.clone()));
                    let found = admit(&mut guard, verb, namespace, "p");
                    assert_eq!(found.is_ok(), want, "{verb} {namespace:?} {asked:?} {granted:?}: {found:?}");
                    assert!(matches!(found, Ok(()) | Err(KubeError::Denied(_))));
                }
            }
        }
    }

    #[test]
    fn a_run_stays_in_its_namespace() {
        let rows = [
            (Verb::Get, Some("shop"), "p", true),
            (Verb::Get, Some("bank"), "p", false),
            (Verb::List, Some("shop"), "p", true),
            (Verb::List, Some("bank"), "p", false),
            (Verb::Create, Some("bank"), "p", false),
            (Verb::Apply, Some("shop"), "p", true),
            (Verb::Apply, Some("bank"), "p", false),
            // Without a namespace.
            (Verb::Discover, None, "", true),
            (Verb::Get, None, "shop.p", true),
            (Verb::Get, None, "shopping.p", false),
            (Verb::Create, None, "shop.p", true),
            (Verb::Create, None, "shop.", false),
            (Verb::Create, None, "shop-a.p", false),
            (Verb::Create, None, "p", false),
            (Verb::Apply, None, "shop.p", false),
            (Verb::List, None, "", false),
        ];
        for (verb, namespace, name, want) in rows {
            let all = grant(&ALL, Names::Any, Names::Any);
            let mut guard =
                Guard::new(Permission { confined_to: Some("shop".into()), ..permission(all.clone(), all) });
            let found = admit(&mut guard, verb, namespace, name);
            assert_eq!(found.is_ok(), want, "{verb} {namespace:?} {name}");
        }
    }

    #[test]
    fn every_call_counts() {
        let create = grant(&[Verb::Create], Names::Any, Names::Any);
        let granted = granted(create.clone(), 2);
        let mut guard = Guard::new(Permission { granted, ..permission(create.clone(), create) });
        let said = [Verb::Create, Verb::Get, Verb::Create]
            .map(|verb| admit(&mut guard, verb, Some("shop"), "p").map_err(|error| error.to_string()));
        let denied = |text: &str| Err(format!("denied: {text}"));
        let want = [
            Ok(()),
            denied("get profiles.g shop/p: the module does not ask for it"),
            denied("create profiles.g shop/p: the run has made its 2 calls"),
        ];
        assert_eq!(said, want);
    }

    #[test]
    fn what_is_granted_changes_within_a_run() {
        #[derive(Debug)]
        struct Changing(std::sync::Mutex<Arc<Granted>>);

        impl Granting for Changing {
            fn granted(&self) -> Arc<Granted> {
                self.0.lock().unwrap().clone()
            }
        }

        let all = grant(&ALL, Names::Any, Names::Any);
        let changing = Arc::new(Changing(std::sync::Mutex::new(granted(all.clone(), 3))));
        let permission = Permission { granted: changing.clone(), ..permission(all.clone(), all.clone()) };
        let mut guard = Guard::new(permission);
        let mut now = |granted| {
            *changing.0.lock().unwrap() = granted;
            admit(&mut guard, Verb::Create, Some("shop"), "p").map_err(|error| error.to_string())
        };
        assert_eq!(now(granted(all.clone(), 3)), Ok(()));
        let why = "denied: create profiles.g shop/p: the cluster does not grant it";
        assert_eq!(now(Arc::new(Granted { grants: vec![], calls: 3 })), Err(why.to_owned()));
        assert_eq!(now(granted(all.clone(), 3)), Ok(()));
        let why = "denied: create profiles.g shop/p: the run has made its 3 calls";
        assert_eq!(now(granted(all.clone(), 3)), Err(why.to_owned()));
        assert_eq!(now(granted(all, 9)), Ok(()));
    }
}
