//! [`KubeApi`] over an API server.

use std::time::Duration;

use gadgetd_core::kube::{Answer, KubeApi, KubeError, Resource};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::Value;
use tokio::time::timeout;

/// Objects in one page of a list. An object may have more than a megabyte.
const PAGE_SIZE: u32 = 50;

/// Bytes of objects in one list: somewhat more than a module may be given.
const LIST_BYTES_MAX: usize = 8 << 20;

/// Calls to an API server, each with a deadline.
#[derive(Clone)]
pub struct KubeAdapter {
    client: Client,
    manager: String,
    deadline: Duration,
}

impl std::fmt::Debug for KubeAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("KubeAdapter");
        debug.field("manager", &self.manager).field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl KubeAdapter {
    /// Calls through `client`, as field manager `manager`, each of which may take `deadline`.
    pub fn new(client: Client, manager: impl Into<String>, deadline: Duration) -> Self {
        Self { client, manager: manager.into(), deadline }
    }

    fn api(&self, resource: &Resource, namespace: Option<&str>) -> Result<Api<DynamicObject>, KubeError> {
        let api_version = match resource.group.as_str() {
            "" => resource.version.clone(),
            group => format!("{group}/{}", resource.version),
        };
        let kind = ApiResource {
            group: resource.group.clone(),
            version: resource.version.clone(),
            api_version,
            kind: resource.kind.clone(),
            plural: resource.plural.clone(),
        };
        match (resource.namespaced, namespace) {
            (true, Some(namespace)) => Ok(Api::namespaced_with(self.client.clone(), namespace, &kind)),
            (false, Some(_)) => Err(KubeError::Invalid(format!("{} have no namespace", resource.plural))),
            (_, None) => Ok(Api::all_with(self.client.clone(), &kind)),
        }
    }

    /// Waits for a call no longer than its deadline.
    async fn within<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, KubeError> {
        match timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(|error| kube_error(&error)),
            Err(_) => {
                Err(KubeError::Deadline(format!("the API server took longer than {:?}", self.deadline)))
            }
        }
    }
}

/// Classifies an error of the client.
pub fn kube_error(error: &kube::Error) -> KubeError {
    match error {
        kube::Error::Api(status) => {
            let message = status.message.clone();
            match status.code {
                401 | 403 => KubeError::Denied(message),
                404 => KubeError::NotFound(message),
                409 => KubeError::Conflict(message),
                400 | 405 | 406 | 413 | 415 | 422 => KubeError::Invalid(message),
                _ => KubeError::Unavailable(message),
            }
        }
        kube::Error::SerdeError(error) => KubeError::Invalid(error.to_string()),
        // What makes no request never will.
        kube::Error::BuildRequest(error) => KubeError::Invalid(error.to_string()),
        kube::Error::HttpError(error) => KubeError::Invalid(error.to_string()),
        other => KubeError::Unavailable(other.to_string()),
    }
}

fn object(value: Value) -> Result<DynamicObject, KubeError> {
    serde_json::from_value(value).map_err(|error| KubeError::Invalid(error.to_string()))
}

fn value(object: DynamicObject) -> Result<Value, KubeError> {
    serde_json::to_value(object).map_err(|error| KubeError::Invalid(error.to_string()))
}

fn needs_namespace(resource: &Resource, namespace: Option<&str>) -> Result<(), KubeError> {
    if resource.namespaced && namespace.is_none() {
        return Err(KubeError::Invalid(format!("{} live in namespaces, and none is named", resource.plural)));
    }
    Ok(())
}

impl KubeApi for KubeAdapter {
    fn discover<'a>(&'a self, group: &'a str, plural: &'a str) -> Answer<'a, Vec<Resource>> {
        Box::pin(async move {
            let groups = self.within(self.client.list_api_groups()).await?.groups;
            let Some(found) = groups.into_iter().find(|g| g.name == group) else { return Ok(Vec::new()) };
            let preferred = found.preferred_version.map(|v| v.group_version);
            let mut versions: Vec<_> = found.versions.into_iter().map(|v| v.group_version).collect();
            versions.sort_by_key(|v| Some(v) != preferred.as_ref());
            let mut served = Vec::new();
            for version in versions {
                let all = match self.within(self.client.list_api_group_resources(&version)).await {
                    Err(KubeError::NotFound(_)) => continue,
                    all => all?,
                };
                let found = all.resources.into_iter().find(|r| r.name == plural);
                served.extend(found.map(|r| Resource {
                    group: group.to_owned(),
                    version: version.rsplit('/').next().unwrap_or_default().to_owned(),
                    plural: r.name,
                    kind: r.kind,
                    namespaced: r.namespaced,
                }));
            }
            Ok(served)
        })
    }

    fn get<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        name: &'a str,
    ) -> Answer<'a, Value> {
        Box::pin(async move {
            needs_namespace(resource, namespace)?;
            value(self.within(self.api(resource, namespace)?.get(name)).await?)
        })
    }

    fn list<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        labels: &'a str,
    ) -> Answer<'a, Vec<Value>> {
        Box::pin(async move {
            let api = self.api(resource, namespace)?;
            let mut params = ListParams::default().labels(labels).limit(PAGE_SIZE);
            let (mut values, mut left) = (Vec::new(), LIST_BYTES_MAX);
            loop {
                let page = self.within(api.list(&params)).await?;
                for item in page.items {
                    let value = value(item)?;
                    left = left
                        .checked_sub(value.to_string().len())
                        .ok_or(KubeError::TooLarge(LIST_BYTES_MAX))?;
                    values.push(value);
                }
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Ok(values),
                }
            }
        })
    }

    fn create<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        new: Value,
    ) -> Answer<'a, Value> {
        Box::pin(async move {
            needs_namespace(resource, namespace)?;
            let params = PostParams { field_manager: Some(self.manager.clone()), ..PostParams::default() };
            value(self.within(self.api(resource, namespace)?.create(&params, &object(new)?)).await?)
        })
    }

    fn apply<'a>(
        &'a self,
        resource: &'a Resource,
        namespace: Option<&'a str>,
        fields: Value,
    ) -> Answer<'a, Value> {
        Box::pin(async move {
            needs_namespace(resource, namespace)?;
            let fields = object(fields)?;
            let Some(name) = fields.metadata.name.clone() else {
                return Err(KubeError::Invalid("the object has no name".into()));
            };
            let api = self.api(resource, namespace)?;
            let params = PatchParams::apply(&self.manager);
            value(self.within(api.patch(&name, &params, &Patch::Apply(fields))).await?)
        })
    }
}
