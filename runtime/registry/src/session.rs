//! Asks a registry for the parts of one repository, and believes nothing of what it answers.
//!
//! `oci-client` reads whatever a registry sends until it ends, and follows it wherever it points. That is fine for a person who
//! pushes to a registry of their own, and is what pushing uses here. What a node fetches goes through this module: each
//! answer has a largest size, each wait an end, and redirects lead nowhere but where they were allowed to.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use gadgetd_host::Digest;
use oci_client::{
    manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE},
    secrets::RegistryAuth,
};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE},
};
use serde::Deserialize;

use crate::{
    artifact::Layer,
    error::{Error, Part},
    reference::Reference,
};

/// The largest manifest, in bytes. Those of modules have less than a thousandth of it.
const MANIFEST_MAX: u64 = 1 << 20;
/// The largest payload of a signature.
const PAYLOAD_MAX: u64 = 64 << 10;
/// The largest answer of whoever hands out tokens.
const TOKEN_MAX: u64 = 64 << 10;
/// How much of an error's text is read.
const MESSAGE_MAX: u64 = 8 << 10;
/// How much of it is shown.
const MESSAGE_SHOWN: usize = 300;
/// How often an answer may be another place to ask.
const REDIRECTS_MAX: usize = 4;

/// How a registry is asked.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) plain_http: bool,
    /// How long to wait for the next bytes.
    pub(crate) idle: Duration,
    /// Hosts, other than the registry, that components may come from.
    pub(crate) blob_hosts: &'a [String],
}

/// A manifest, and its digest, which is that of these bytes.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

/// One repository, and the right to read it.
pub(crate) struct Session<'a> {
    http: &'a Client,
    reference: &'a Reference,
    rules: Rules<'a>,
    login: RegistryAuth,
    authorization: Option<HeaderValue>,
}

/// Some hand it out under the one name, some under the other, some under both.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Session<'a> {
    /// The login that is stored for the registry.
    pub(crate) fn login(&self) -> &RegistryAuth {
        &self.login
    }

    /// What to show when something is pushed. It is found out here, and not by `oci-client`, which would send the login to
    /// wherever the registry says, also in the clear.
    pub(crate) async fn right_to_push(&self) -> Result<RegistryAuth, Error> {
        let url = self.url("");
        let response = self.http.get(url.clone()).send().await.map_err(|error| self.failed(error))?;
        match response.status() {
            StatusCode::OK => Ok(RegistryAuth::Anonymous),
            StatusCode::UNAUTHORIZED => {
                let authorization = self.authorize(response.headers(), "pull,push").await?;
                let token = authorization.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
                Ok(token.map_or_else(|| self.login.clone(), |token| RegistryAuth::Bearer(token.to_owned())))
            }
            _ => Err(self.refused(Part::Token, url.as_str(), response).await),
        }
    }

    /// Where something is, below the registry's `/v2/`.
    fn url(&self, path: &str) -> Url {
        let scheme = if self.rules.plain_http { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/{path}", self.reference.server());
        Url::parse(&text).expect("a reference is read only if its server fits into a URL")
    }

    pub(crate) fn new(
        http: &'a Client,
        reference: &'a Reference,
        rules: Rules<'a>,
        login: RegistryAuth,
    ) -> Self {
        Self { http, reference, rules, login, authorization: None }
    }

    /// The manifest that the reference means.
    pub(crate) async fn manifest(&mut self) -> Result<Manifest, Error> {
        let which = self.reference.manifest();
        let response = self.ask(Part::Manifest, &format!("manifests/{which}")).await?;
        let promised = header(response.headers(), "docker-content-digest").and_then(Digest::parse);
        let bytes = self.read(response, Part::Manifest, MANIFEST_MAX).await?;
        let found = Digest::of(&bytes);
        match self.reference.digest().or(promised) {
            Some(wanted) if wanted != found => Err(Error::Tampered { part: Part::Manifest, wanted, found }),
            _ => Ok(Manifest { bytes, digest: found }),
        }
    }

    /// The list of an artifact's signatures, by its tag; none if there is no such tag.
    pub(crate) async fn signatures(&mut self, tag: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.ask(Part::Signatures, &format!("manifests/{tag}")).await {
            Ok(response) => self.read(response, Part::Signatures, MANIFEST_MAX).await.map(Some),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a signature signs.
    pub(crate) async fn payload(&mut self, layer: Layer) -> Result<Vec<u8>, Error> {
        self.blob(Part::Payload, layer, PAYLOAD_MAX).await
    }

    /// The component.
    pub(crate) async fn component(&mut self, layer: Layer, limit: u64) -> Result<Vec<u8>, Error> {
        self.blob(Part::Layer, layer, limit).await
    }

    async fn blob(
        &mut self,
        part: Part,
        Layer { digest, size }: Layer,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        if size > limit {
            return Err(Error::TooLarge { part, limit });
        }
        let response = self.ask(part, &format!("blobs/{digest}")).await?;
        let bytes = self.read(response, part, size).await.map_err(|error| match error {
            Error::TooLarge { .. } => Error::Longer { part, declared: size },
            error => error,
        })?;
        let received = bytes.len() as u64;
        if received < size {
            return Err(Error::Truncated { part, received, declared: size });
        }
        match Digest::of(&bytes) {
            found if found != digest => Err(Error::Tampered { part, wanted: digest, found }),
            _ => Ok(bytes),
        }
    }

    /// Asks for a part, logs in if that is asked for, and follows redirects that may be followed.
    async fn ask(&mut self, part: Part, path: &str) -> Result<Response, Error> {
        let start = self.url(&format!("{}/{path}", self.reference.repository()));
        let mut url = start.clone();
        let mut redirects = 0;
        loop {
            let at_home = url.origin() == start.origin();
            let mut request = self.http.get(url.clone()).header(ACCEPT, accepted(part));
            if let Some(authorization) = self.authorization.as_ref().filter(|_| at_home) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|error| self.failed(error))?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::UNAUTHORIZED if at_home && self.authorization.is_none() => {
                    self.authorization = Some(self.authorize(response.headers(), "pull").await?);
                }
                status if status.is_redirection() => {
                    redirects += 1;
                    url = self.follow(part, &start, &url, response.headers(), redirects)?;
                }
                _ => return Err(self.refused(part, start.as_str(), response).await),
            }
        }
    }

    /// Where a redirect leads to, if it may be followed: to the same registry; and for components, whose digest is
    /// known, to hosts that were allowed, without the login and not in the clear.
    fn follow(
        &self,
        part: Part,
        start: &Url,
        from: &Url,
        headers: &HeaderMap,
        redirects: usize,
    ) -> Result<Url, Error> {
        let refused =
            |to: String| Error::Redirect { registry: self.reference.registry().to_owned(), part, to };
        let location = header(headers, LOCATION.as_str());
        let to = location.and_then(|to| from.join(to).ok()).ok_or_else(|| refused("nowhere".to_owned()))?;
        if redirects > REDIRECTS_MAX {
            return Err(refused(format!("ever another place, at last {}", place(&to))));
        }
        let allowed = || {
            let host = to.host_str().unwrap_or_default();
            part == Part::Layer
                && to.scheme() == "https"
                && self.rules.blob_hosts.iter().any(|pattern| is_host(pattern, host))
        };
        if to.origin() == start.origin() || allowed() { Ok(to) } else { Err(refused(place(&to))) }
    }

    /// Finds out how to log in, and does, to do this with the repository.
    async fn authorize(&self, headers: &HeaderMap, actions: &str) -> Result<HeaderValue, Error> {
        let refused = |reason: &str| Error::Challenge {
            registry: self.reference.registry().to_owned(),
            reason: reason.to_owned(),
        };
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> =
            texts.filter_map(|text| http_auth::parse_challenges(text).ok()).flatten().collect();
        let scheme = |name: &str| challenges.iter().find(|known| known.scheme.eq_ignore_ascii_case(name));
        if let Some(bearer) = scheme("bearer") {
            let parameter = |name: &str| {
                let found = bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let realm = parameter("realm").ok_or_else(|| refused("it does not say where"))?;
            return self.token(&realm, parameter("service").as_deref(), actions).await;
        }
        match &self.login {
            RegistryAuth::Basic(user, password) if scheme("basic").is_some() => {
                secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
                    .ok_or_else(|| refused("the stored login does not fit into a header"))
            }
            RegistryAuth::Anonymous => Err(Error::denied(self.reference, &self.login)),
            _ => Err(refused("it names neither the scheme Bearer nor Basic")),
        }
    }

    /// Gets a token to do this with the repository.
    async fn token(&self, realm: &str, service: Option<&str>, actions: &str) -> Result<HeaderValue, Error> {
        let refused =
            |reason: String| Error::Challenge { registry: self.reference.registry().to_owned(), reason };
        let shown = || realm.chars().take(MESSAGE_SHOWN).collect::<String>();
        let mut url = Url::parse(realm).map_err(|_| refused(format!("{:?} is no place", shown())))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && self.rules.plain_http) {
            return Err(refused(format!("{} would see the login in the clear", place(&url))));
        }
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{}:{actions}", self.reference.repository()));
        let mut request = self.http.get(url.clone());
        if let RegistryAuth::Basic(user, password) = &self.login {
            request = request.basic_auth(user, Some(password));
        }
        let response = request.send().await.map_err(|error| self.failed(error))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(refused(format!("{} sends elsewhere for an access token", place(&url))));
            }
            _ => return Err(self.refused(Part::Token, url.as_str(), response).await),
        }
        let answer = self.read(response, Part::Token, TOKEN_MAX).await?;
        let token: Option<Token> = serde_json::from_slice(&answer).ok();
        let token = token.and_then(|Token { token, access_token }| token.or(access_token));
        let header = token.and_then(|token| secret(&format!("Bearer {token}")));
        header.ok_or_else(|| refused(format!("{} gives no access token", place(&url))))
    }

    /// Reads an answer to its end, if that comes within the limit.
    async fn read(&self, mut response: Response, part: Part, limit: u64) -> Result<Vec<u8>, Error> {
        let declared = response.content_length();
        if declared.is_some_and(|declared| declared > limit) {
            return Err(Error::TooLarge { part, limit });
        }
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() as u64 + chunk.len() as u64 > limit => {
                    return Err(Error::TooLarge { part, limit });
                }
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => return Ok(bytes),
                Err(error) if error.is_timeout() => return Err(self.failed(error)),
                Err(error) => {
                    return Err(match declared {
                        Some(declared) => Error::Truncated { part, received: bytes.len() as u64, declared },
                        None => self.failed(error),
                    });
                }
            }
        }
    }

    /// What an answer means that is not the wanted one.
    async fn refused(&self, part: Part, asked: &str, response: Response) -> Error {
        let status = response.status();
        // Where the registry sent for a component, nobody knows of its logins.
        let elsewhere = part == Part::Layer && response.url().origin() != self.url("").origin();
        let registry = if elsewhere { place(response.url()) } else { self.reference.registry().to_owned() };
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { part, place: asked.to_owned() },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if !elsewhere => {
                Error::denied(self.reference, &self.login)
            }
            _ => {
                let body = self.read(response, part, MESSAGE_MAX).await.unwrap_or_default();
                Error::Status { registry, part, status: status.as_u16(), message: message(&body) }
            }
        }
    }

    fn failed(&self, source: reqwest::Error) -> Error {
        // It may be another server that was asked; and of a URL what follows the host may be a secret.
        let home = self.url("").origin();
        let asked = source.url().filter(|url| url.origin() != home).map(place);
        let registry = asked.unwrap_or_else(|| self.reference.registry().to_owned());
        let source = source.without_url();
        if source.is_connect() {
            Error::Unreachable { registry, source }
        } else if source.is_timeout() {
            Error::Silent { registry, waited: self.rules.idle }
        } else {
            Error::Protocol { registry, source }
        }
    }
}

fn accepted(part: Part) -> HeaderValue {
    // An index is accepted to be told apart from nothing at all.
    match part {
        Part::Manifest | Part::Signatures => {
            let accepted = format!("{OCI_IMAGE_MEDIA_TYPE}, {OCI_IMAGE_INDEX_MEDIA_TYPE}");
            HeaderValue::from_str(&accepted).expect("media types are ASCII")
        }
        _ => HeaderValue::from_static("*/*"),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header that is not logged.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A URL for people: what follows the host may be a secret.
fn place(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether a host is meant: `cdn.example.com`, or any below `*.example.com`.
fn is_host(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// What a registry says about an error, on one line.
fn message(body: &[u8]) -> String {
    let said: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let said = said.as_ref().and_then(|said| said["errors"][0]["message"].as_str());
    said.unwrap_or_default().escape_debug().take(MESSAGE_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_as_a_whole() {
        for (pattern, host, is) in [
            ("cdn.example.com", "cdn.example.com", true),
            ("cdn.example.com", "CDN.example.com", true),
            ("cdn.example.com", "x.cdn.example.com", false),
            ("*.example.com", "cdn.example.com", true),
            ("*.example.com", "a.cdn.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("", "example.com", false),
        ] {
            assert_eq!(is_host(pattern, host), is, "{pattern} {host}");
        }
    }

    #[test]
    fn what_a_registry_says_is_shown_on_one_line() {
        let long = format!(r#"{{"errors": [{{"message": "{}"}}]}}"#, "x".repeat(1000));
        for (body, shown) in [
            (r#"{"errors": [{"code": "X", "message": "go\n\u001b[31maway"}]}"#, r"go\n\u{1b}[31maway"),
            ("<html>", ""),
            (&long, &"x".repeat(MESSAGE_SHOWN)),
        ] {
            assert_eq!(message(body.as_bytes()), shown);
        }
    }
}
