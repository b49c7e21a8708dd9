//! What the API server's answers mean for people: what happened, to what, and what to do.

use std::{error::Error as _, fmt::Display};

use anyhow::{Error, Result, anyhow};
use kube::{Error as KubeError, core::Status};

/// Who may do what was tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Needs<'a> {
    /// The role `gadget-user` in this namespace; `None`: in all of them.
    User(Option<&'a str>),
    /// The rights of an administrator of the cluster.
    Admin,
}

/// Says what was tried where the API server did not do it.
pub(crate) trait Explain<T> {
    /// `what` goes on after "cannot", as in "cannot list recordings".
    fn explain(self, what: impl Display, needs: Needs<'_>) -> Result<T>;
}

impl<T> Explain<T> for Result<T, KubeError> {
    fn explain(self, what: impl Display, needs: Needs<'_>) -> Result<T> {
        self.map_err(|error| explained(&error, what, needs))
    }
}

/// The same, for an error.
pub(crate) fn explained(error: &KubeError, what: impl Display, needs: Needs<'_>) -> Error {
    match error {
        KubeError::Api(status) if status.is_forbidden() => {
            anyhow!("cannot {what}: {}; {}", status.message, remedy(needs))
        }
        KubeError::Api(status) if status.code == 401 => anyhow!(
            "cannot {what}: the API server does not know you; log in again, or choose another --context or --user"
        ),
        KubeError::Api(status) => anyhow!("cannot {what}: {}", message(status)),
        KubeError::Service(_) | KubeError::HyperError(_) => anyhow!(
            "cannot {what}: the API server cannot be reached ({}); see that it is up, and that --context is the right one",
            root(error)
        ),
        other => anyhow!("cannot {what}: {}", root(other)),
    }
}

fn message(status: &Status) -> String {
    if status.message.is_empty() {
        format!("the API server answered {} {}", status.code, status.reason)
    } else {
        status.message.clone()
    }
}

fn remedy(needs: Needs<'_>) -> String {
    match needs {
        Needs::User(Some(namespace)) => format!(
            "ask somebody who may for the role gadget-user there: kubectl create rolebinding gadget-user --clusterrole \
             gadget-user --user <YOU> --namespace {namespace}"
        ),
        Needs::User(None) => "name a namespace with -n, or ask somebody who may for the role gadget-user everywhere: \
                              kubectl create clusterrolebinding gadget-user --clusterrole gadget-user --user <YOU>"
            .to_owned(),
        Needs::Admin => "it takes the rights of an administrator of the cluster".to_owned(),
    }
}

/// What lies at the bottom of an error, in its own words: what is above says only that there was one.
fn root(error: &KubeError) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::ptr::addr_eq(innermost, error) && error.source().is_none() {
        return error.to_string();
    }
    innermost.to_string()
}

/// Whether there is no such object, or no such kind of object.
pub(crate) fn is_not_found(error: &KubeError) -> bool {
    matches!(error, KubeError::Api(status) if status.is_not_found() || status.code == 404)
}

/// Whether it may not be done.
pub(crate) fn is_forbidden(error: &KubeError) -> bool {
    matches!(error, KubeError::Api(status) if status.is_forbidden())
}

/// Whether the API server did not answer, or not in earnest: it may do so later.
pub(crate) fn is_unreachable(error: &KubeError) -> bool {
    match error {
        KubeError::Service(_) | KubeError::HyperError(_) => true,
        KubeError::Api(status) => status.code == 429 || status.code >= 500,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> KubeError {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        KubeError::Api(Box::new(status))
    }

    #[test]
    fn errors_say_what_happened_to_what_and_what_to_do() {
        let forbidden = answer(403, "Forbidden", "traces is forbidden: User \"ada\" cannot create");
        let text = |error: &KubeError, needs| explained(error, "start a recording", needs).to_string();
        let said = text(&forbidden, Needs::User(Some("shop")));
        assert!(said.starts_with("cannot start a recording: traces is forbidden"), "{said}");
        assert!(said.ends_with("--namespace shop"), "{said}");
        assert!(text(&forbidden, Needs::User(None)).contains("-n"));
        assert!(text(&forbidden, Needs::Admin).ends_with("administrator of the cluster"));
        assert!(text(&answer(401, "Unauthorized", "Unauthorized"), Needs::Admin).contains("log in again"));
        let said = text(&answer(422, "Invalid", "spec.node: too long"), Needs::Admin);
        assert_eq!(said, "cannot start a recording: spec.node: too long");
        assert!(
            text(&answer(500, "InternalError", ""), Needs::Admin).ends_with("answered 500 InternalError")
        );
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let said = text(&KubeError::Service(Box::new(refused)), Needs::Admin);
        assert!(said.contains("cannot be reached (connection refused)"), "{said}");
    }
}
