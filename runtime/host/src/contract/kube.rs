//! `kube`: Kubernetes, call by call. The run's session checks, makes and records them.

use gadgetd_core::kube::{KubeError, Resource, Verb};
use wasmtime::component::HasData;

use crate::{
    bindings::kube::{Error, Host, Kind},
    cluster::session::Session,
    sandbox::fault::ContractViolation,
    text::printable,
};

impl HasData for Session {
    /// There is none while the module describes itself.
    type Data<'a> = KubeView<'a>;
}

/// The run's session, unless the module describes itself.
pub(crate) struct KubeView<'a>(pub(crate) Option<&'a mut Session>);

impl KubeView<'_> {
    fn session(&mut self, function: &str) -> wasmtime::Result<&mut Session> {
        let session = self.0.as_deref_mut();
        Ok(session.ok_or_else(|| ContractViolation::in_describe(&format!("kube.{function}")))?)
    }
}

impl Host for KubeView<'_> {
    async fn discover(
        &mut self,
        group: String,
        plural: String,
    ) -> wasmtime::Result<Result<Vec<Kind>, Error>> {
        let kinds = self.session("discover")?.discover(group, plural).await;
        Ok(kinds.map(|kinds| kinds.into_iter().map(Kind::from).collect()).map_err(Error::from))
    }

    async fn get(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        name: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        Ok(self.session("get")?.get(kind.into(), namespace, name).await.map_err(Error::from))
    }

    async fn list(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        labels: String,
    ) -> wasmtime::Result<Result<Vec<String>, Error>> {
        Ok(self.session("list")?.list(kind.into(), namespace, labels).await.map_err(Error::from))
    }

    async fn create(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        object: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        Ok(self
            .session("create")?
            .write(Verb::Create, kind.into(), namespace, object)
            .await
            .map_err(Error::from))
    }

    async fn apply(
        &mut self,
        kind: Kind,
        namespace: Option<String>,
        object: String,
    ) -> wasmtime::Result<Result<String, Error>> {
        Ok(self
            .session("apply")?
            .write(Verb::Apply, kind.into(), namespace, object)
            .await
            .map_err(Error::from))
    }
}

impl From<Kind> for Resource {
    fn from(Kind { group, version, plural, name, namespaced }: Kind) -> Self {
        Self { group, version, plural, kind: name, namespaced }
    }
}

impl From<Resource> for Kind {
    fn from(Resource { group, version, plural, kind, namespaced }: Resource) -> Self {
        Self { group, version, plural, name: kind, namespaced }
    }
}

impl From<KubeError> for Error {
    fn from(error: KubeError) -> Self {
        match error {
            KubeError::Denied(text) => Self::Denied(text),
            KubeError::NotFound(text) => Self::NotFound(text),
            KubeError::Conflict(text) => Self::Conflict(text),
            KubeError::Invalid(text) => Self::Invalid(text),
            KubeError::TooLarge(most) => Self::TooLarge(most as u64),
            KubeError::Unavailable(text) => Self::Unavailable(text),
            KubeError::Deadline(text) => Self::Deadline(text),
        }
    }
}

impl From<Error> for KubeError {
    /// A module's words, made safe to print.
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) => Self::Denied(printable(text)),
            Error::NotFound(text) => Self::NotFound(printable(text)),
            Error::Conflict(text) => Self::Conflict(printable(text)),
            Error::Invalid(text) => Self::Invalid(printable(text)),
            Error::TooLarge(most) => Self::TooLarge(usize::try_from(most).unwrap_or(usize::MAX)),
            Error::Unavailable(text) => Self::Unavailable(printable(text)),
            Error::Deadline(text) => Self::Deadline(printable(text)),
        }
    }
}
