//! A cluster that answers as a script says.

use std::sync::Arc;

use gadget_sdk::{
    kube::Error,
    testing::{KubeAnswer, KubeCall},
};
use gadgetd_core::kube::{Answer, KubeApi, KubeError, Resource};
use serde_json::Value;

use crate::convert;

pub(crate) type Script = Arc<dyn Fn(&KubeCall) -> Result<KubeAnswer, Error> + Send + Sync>;

/// The script, as the host calls it.
pub(crate) struct Scripted(pub(crate) Script);

impl Scripted {
    fn object(&self, call: &KubeCall) -> Result<Value, KubeError> {
        match (self.0)(call).map_err(error)? {
            KubeAnswer::Object(object) => Ok(value(&object)),
            other => panic!("the script answers with {other:?} where one object is asked for"),
        }
    }
}

fn value(object: &str) -> Value {
    serde_json::from_str(object)
        .unwrap_or_else(|error| panic!("the script answers with no JSON ({error}): {object}"))
}

fn error(error: Error) -> KubeError {
    match error {
        Error::Denied(text) => KubeError::Denied(text),
        Error::NotFound(text) => KubeError::NotFound(text),
        Error::Conflict(text) => KubeError::Conflict(text),
        Error::Invalid(text) => KubeError::Invalid(text),
        Error::TooLarge(most) => KubeError::TooLarge(usize::try_from(most).unwrap_or(usize::MAX)),
        Error::Unavailable(text) => KubeError::Unavailable(text),
        Error::Deadline(text) => KubeError::Deadline(text),
    }
}

impl KubeApi for Scripted {
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>> {
        let call = KubeCall::Discover { group: group.into(), plural: plural.into() };
        Box::pin(async move {
            match (self.0)(&call).map_err(error)? {
                KubeAnswer::Kinds(kinds) => Ok(kinds.into_iter().map(convert::resource).collect()),
                other => panic!("the script answers with {other:?} where kinds are asked for"),
            }
        })
    }

    fn get<'a>(&'a self, of: &'a Resource, namespace: Option<&'a str>, name: &'a str) -> Answer<'a, Value> {
        let namespace = namespace.map(str::to_owned);
        let call = KubeCall::Get { kind: convert::kind(of), namespace, name: name.into() };
        Box::pin(async move { self.object(&call) })
    }

    fn list<'a>(
        &'a self,
        of: &'a Resource,
        namespace: Option<&'a str>,
        labels: &'a str,
    ) -> Answer<'a, Vec<Value>> {
        let namespace = namespace.map(str::to_owned);
        let call = KubeCall::List { kind: convert::kind(of), namespace, labels: labels.into() };
        Box::pin(async move {
            match (self.0)(&call).map_err(error)? {
                KubeAnswer::Objects(objects) => Ok(objects.iter().map(|object| value(object)).collect()),
                other => panic!("the script answers with {other:?} where several objects are asked for"),
            }
        })
    }

    fn create<'a>(
        &'a self,
        of: &'a Resource,
        namespace: Option<&'a str>,
        object: Value,
    ) -> Answer<'a, Value> {
        let (kind, namespace) = (convert::kind(of), namespace.map(str::to_owned));
        let call = KubeCall::Create { kind, namespace, object: object.to_string() };
        Box::pin(async move { self.object(&call) })
    }

    fn apply<'a>(&'a self, of: &'a Resource, namespace: Option<&'a str>, object: Value) -> Answer<'a, Value> {
        let (kind, namespace) = (convert::kind(of), namespace.map(str::to_owned));
        let call = KubeCall::Apply { kind, namespace, object: object.to_string() };
        Box::pin(async move { self.object(&call) })
    }
}
