//! What is done with artifacts: fetch, verify, push and sign them.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use gadgetd_host::{Digest, FetchError, FetchFuture, FetchRequest, Fetched, KeyId, Origin, Registry, Trust};
use oci_client::{
    Reference as OciReference, RegistryOperation,
    client::{
        Certificate as PushCertificate, CertificateEncoding, Client as Pusher, ClientConfig, ClientProtocol,
    },
    errors::OciDistributionError,
    manifest::OCI_IMAGE_MEDIA_TYPE,
    secrets::RegistryAuth,
};
use reqwest::{Certificate, Client as Http, StatusCode, header::HeaderValue, redirect::Policy};
use rustls::crypto::ring;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use crate::{
    artifact::{self, About},
    cache::{Cache, Kept},
    credentials::Credentials,
    error::Error,
    key::PrivateKey,
    reference::Reference,
    session::{Manifest, Rules, Session},
    signature::{self, Signed, Verification},
};

/// How much is shown of what a registry says when something is pushed.
const SHOWN: usize = 300;

const USER_AGENT: &str = concat!("gadgetd/", env!("CARGO_PKG_VERSION"));

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long one thing may take in all: a fetch with all that belongs to it, a push.
    pub deadline: Duration,
    /// How long to wait for a connection.
    pub connect: Duration,
    /// How long to wait for the next bytes.
    pub idle: Duration,
    /// Whether a connection is encrypted.
    pub encryption: Encryption,
    /// Certificates of authorities that are trusted in addition, in PEM. Trusted are also those that the system trusts (or
    /// `$SSL_CERT_FILE` and `$SSL_CERT_DIR` name), and where there are none, as in a bare container image, Mozilla's.
    pub authorities: Vec<String>,
    /// Hosts, besides the registry's own, that it may send to for a component: `cdn.example.com`, `*.example.com`.
    /// Many public registries keep content elsewhere. Such a host is asked by https only and without the login, and what it
    /// sends is verified like everything else.
    pub blob_hosts: Vec<String>,
    /// Where logins are looked up.
    pub credentials: Credentials,
    /// Where artifacts are kept that were verified; nowhere, if not given.
    pub cache_dir: Option<PathBuf>,
}

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// All but those to this machine.
    #[default]
    Remote,
    /// All.
    Always,
    /// None: whoever is in between can read logins. They still cannot exchange what is signed.
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(1),
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            encryption: Encryption::default(),
            authorities: Vec::new(),
            blob_hosts: Vec::new(),
            credentials: Credentials::default(),
            cache_dir: None,
        }
    }
}

/// Reaches registries. One is enough for a process; nothing is connected until something is asked for.
#[derive(Debug)]
pub struct Client {
    config: Config,
    /// For registries elsewhere, and for those on this machine.
    http: [OnceLock<Http>; 2],
    cache: Option<Arc<Cache>>,
}

impl Client {
    /// A client. If the folder for artifacts cannot be used, nothing is kept.
    pub fn new(config: Config) -> Self {
        // Whoever came first decides; all of them are the same here.
        let _ = ring::default_provider().install_default();
        let cache = config.cache_dir.as_ref().and_then(|folder| match Cache::open(folder) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                tracing::debug!("modules are fetched anew: cannot use {}: {error}", folder.display());
                None
            }
        });
        Self { config, http: Default::default(), cache }
    }

    /// Fetches a component, if it is from somebody who is trusted, and at most so many bytes long.
    ///
    /// The order is: the manifest; its signatures, and whether one is good; and only then the component, which must
    /// have the size and the digest that the manifest says. What was verified is kept, and a reference with a digest
    /// is then answered without asking the registry, as long as the kept signature is good enough.
    pub async fn fetch(&self, reference: &Reference, trust: &Trust, limit: u64) -> Result<Fetched, Error> {
        self.in_time(reference, self.fetch_anyhow(reference, trust, limit)).await
    }

    async fn fetch_anyhow(&self, reference: &Reference, trust: &Trust, limit: u64) -> Result<Fetched, Error> {
        somebody_is_trusted(trust)?;
        if let Some(fetched) = self.kept(reference, trust, limit).await {
            return Ok(fetched);
        }
        let mut session = self.session(reference).await?;
        let manifest = session.manifest().await?;
        let (signed_by, signed) = verify(&mut session, manifest.digest, trust).await?.unzip();
        let layer = artifact::read(&manifest.bytes)?;
        let known = match &self.cache {
            Some(cache) if layer.size <= limit => {
                let cache = cache.clone();
                blocking(move || cache.component(layer)).await
            }
            _ => None,
        };
        let component = match known {
            Some(component) => component,
            None => session.component(layer, limit).await?,
        };
        let origin = Origin { repository: reference.name(), manifest: manifest.digest, signed_by };
        let mut kept = Kept { component, signed };
        if let Some(cache) = self.cache.clone() {
            kept = blocking(move || {
                cache.save(&manifest.bytes, layer, &kept);
                kept
            })
            .await;
        }
        Ok(Fetched { bytes: kept.component, origin })
    }

    /// What was fetched before, if that settles it.
    async fn kept(&self, reference: &Reference, trust: &Trust, limit: u64) -> Option<Fetched> {
        let (cache, manifest) = (self.cache.clone()?, reference.digest()?);
        let Kept { component, signed } = blocking(move || cache.load(manifest)).await?;
        let signed_by = signed.and_then(|signed| Verification::default().look(&signed, manifest, trust));
        // Where a key is given, only the registry knows that there is no signature.
        let settled = signed_by.is_some() || trust.keys.is_empty();
        let origin = Origin { repository: reference.name(), manifest, signed_by };
        (settled && component.len() as u64 <= limit).then_some(Fetched { bytes: component, origin })
    }

    /// Looks whether somebody who is trusted signed an artifact. Its component is not fetched.
    pub async fn verify(&self, reference: &Reference, trust: &Trust) -> Result<Origin, Error> {
        let verified = async {
            somebody_is_trusted(trust)?;
            let mut session = self.session(reference).await?;
            let Manifest { bytes, digest } = session.manifest().await?;
            let signed_by = verify(&mut session, digest, trust).await?.map(|(key, _)| key);
            artifact::read(&bytes)?;
            Ok(Origin { repository: reference.name(), manifest: digest, signed_by })
        };
        self.in_time(reference, verified).await
    }

    /// Pushes a component, and returns the digest of its manifest. The same component gives the same digest.
    pub async fn push(
        &self,
        reference: &Reference,
        component: Vec<u8>,
        about: &About,
    ) -> Result<Digest, Error> {
        let pushed = async {
            let to = reference.to_push()?;
            let (manifest, config) = artifact::describe(&component, about);
            let blobs = [component, config];
            self.push_all(reference, to, blobs, &manifest).await?;
            Ok(Digest::of(&manifest))
        };
        self.in_time(reference, pushed).await
    }

    /// Signs an artifact, and returns the digest that the signature is for. Signatures that are there stay.
    ///
    /// A tag means whatever the registry says that it means: to sign what one has pushed, name it by its digest.
    pub async fn sign(&self, reference: &Reference, key: &PrivateKey) -> Result<Digest, Error> {
        let signed = async {
            let mut session = self.session(reference).await?;
            let Manifest { bytes, digest } = session.manifest().await?;
            artifact::read(&bytes)?;
            let tag = signature::tag(digest);
            let list = session.signatures(&tag).await?;
            let signed = Signed::new(reference, digest, key);
            let (manifest, config, new) = signature::add(list.as_deref(), &signed)?;
            if new {
                let blobs = [signed.payload.into_bytes(), config];
                self.push_all(reference, &reference.with_tag(tag), blobs, &manifest).await?;
            }
            Ok(digest)
        };
        self.in_time(reference, signed).await
    }

    async fn push_all(
        &self,
        reference: &Reference,
        to: &OciReference,
        blobs: [Vec<u8>; 2],
        manifest: &[u8],
    ) -> Result<(), Error> {
        let session = self.session(reference).await?;
        let failed = |error| push_failed(reference, session.login(), error);
        let right = session.right_to_push().await?;
        let pusher = self.pusher(reference).await.map_err(failed)?;
        pusher.auth(to, &right, RegistryOperation::Push).await.map_err(failed)?;
        for blob in blobs {
            let digest = Digest::of(&blob).to_string();
            if !pusher.blob_exists(to, &digest).await.map_err(failed)? {
                pusher.push_blob(to, blob, &digest).await.map_err(failed)?;
            }
        }
        let media_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
        pusher.push_manifest_raw(to, manifest.to_vec(), media_type).await.map_err(failed)?;
        Ok(())
    }

    async fn in_time<T>(
        &self,
        reference: &Reference,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let limit = self.config.deadline;
        let registry = || reference.registry().to_owned();
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { registry: registry(), limit }),
        }
    }

    async fn session<'a>(&'a self, reference: &'a Reference) -> Result<Session<'a>, Error> {
        let login = self.login(reference).await?;
        let rules = Rules {
            plain_http: self.plain_http(reference),
            idle: self.config.idle,
            blob_hosts: &self.config.blob_hosts,
        };
        Ok(Session::new(self.http(reference).await?, reference, rules, login))
    }

    async fn pusher(&self, reference: &Reference) -> Result<Pusher, OciDistributionError> {
        let certificate = |(encoding, data)| PushCertificate { encoding, data };
        let system = blocking(authorities).await.into_iter().map(|der| (CertificateEncoding::Der, der));
        let own =
            self.config.authorities.iter().map(|pem| (CertificateEncoding::Pem, pem.clone().into_bytes()));
        let http = self.plain_http(reference);
        let config = ClientConfig {
            protocol: if http { ClientProtocol::Http } else { ClientProtocol::Https },
            tls_certs_only: system.chain(own).map(certificate).collect(),
            // One request for each part: what a registry surely takes.
            use_monolithic_push: true,
            platform_resolver: None,
            read_timeout: Some(self.config.idle),
            connect_timeout: Some(self.config.connect),
            user_agent: USER_AGENT,
            ..ClientConfig::default()
        };
        // It makes a client of its own first, with the authorities of the system, and panics where there are none.
        reqwest::Client::builder().build()?;
        Pusher::try_from(config)
    }

    async fn login(&self, reference: &Reference) -> Result<RegistryAuth, Error> {
        let (credentials, server) = (self.config.credentials.clone(), reference.server().to_owned());
        let found = blocking(move || credentials.find(&server)).await;
        let registry = || reference.registry().to_owned();
        found.map_err(|source| Error::Credentials { registry: registry(), source })
    }

    fn plain_http(&self, reference: &Reference) -> bool {
        match self.config.encryption {
            Encryption::Remote => reference.is_local(),
            Encryption::Always => false,
            Encryption::Never => true,
        }
    }

    async fn http(&self, reference: &Reference) -> Result<&Http, Error> {
        let local = reference.is_local();
        let place = &self.http[usize::from(local)];
        if let Some(http) = place.get() {
            return Ok(http);
        }
        let system = blocking(authorities).await;
        let system = system.iter().map(|der| Certificate::from_der(der).map_err(Error::Client));
        let mut trusted = system.collect::<Result<Vec<_>, _>>()?;
        for pem in &self.config.authorities {
            trusted.extend(Certificate::from_pem_bundle(pem.as_bytes()).map_err(Error::Client)?);
        }
        // A proxy of the environment would ask its own machine, and see what is not encrypted because nobody is between.
        let builder = if local { Http::builder().no_proxy() } else { Http::builder() };
        let http = builder
            .redirect(Policy::none())
            .connect_timeout(self.config.connect)
            .read_timeout(self.config.idle)
            .tls_certs_only(trusted)
            .user_agent(USER_AGENT)
            .build()
            .map_err(Error::Client)?;
        Ok(place.get_or_init(|| http))
    }
}

/// The certificates of the authorities that are trusted here, in DER.
fn authorities() -> Vec<Vec<u8>> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!("an authority is not trusted: {error}");
    }
    if found.certs.is_empty() {
        tracing::debug!("this system trusts no authority: Mozilla's are");
        return TLS_SERVER_ROOT_CERTS.iter().map(|certificate| certificate.to_vec()).collect();
    }
    found.certs.into_iter().map(|certificate| certificate.to_vec()).collect()
}

impl Registry for Client {
    fn fetch<'a>(&'a self, FetchRequest { reference, trust, limit }: FetchRequest<'a>) -> FetchFuture<'a> {
        Box::pin(async move {
            let reference = Reference::parse(reference).map_err(Error::from)?;
            Ok::<_, FetchError>(Self::fetch(self, &reference, trust, limit).await?)
        })
    }
}

fn somebody_is_trusted(trust: &Trust) -> Result<(), Error> {
    if trust.keys.is_empty() && !trust.allow_unsigned { Err(Error::NobodyIsTrusted) } else { Ok(()) }
}

/// Whose good signature an artifact has, and the signature; none if it has none and needs none.
async fn verify(
    session: &mut Session<'_>,
    artifact: Digest,
    trust: &Trust,
) -> Result<Option<(KeyId, Signed)>, Error> {
    if trust.keys.is_empty() {
        return Ok(None);
    }
    let Some(list) = session.signatures(&signature::tag(artifact)).await? else {
        return if trust.allow_unsigned { Ok(None) } else { Err(Error::Unsigned(artifact)) };
    };
    let mut verification = Verification::default();
    for (descriptor, signature) in signature::list(&list)? {
        let Ok(layer) = artifact::layer_of(&descriptor) else { continue };
        let payload = session.payload(layer).await?;
        let Ok(payload) = String::from_utf8(payload) else { continue };
        let signed = Signed { payload, signature };
        if let Some(key) = verification.look(&signed, artifact, trust) {
            return Ok(Some((key, signed)));
        }
    }
    Err(verification.refusal(artifact, trust))
}

fn push_failed(reference: &Reference, login: &RegistryAuth, source: OciDistributionError) -> Error {
    let registry = reference.registry().to_owned();
    match source {
        OciDistributionError::RequestError(source) if source.is_connect() => {
            Error::Unreachable { registry, source: source.without_url() }
        }
        OciDistributionError::RequestError(source) if source.status().is_some_and(is_denial) => {
            Error::denied(reference, login)
        }
        OciDistributionError::RequestError(source) => {
            Error::Protocol { registry, source: source.without_url() }
        }
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            Error::denied(reference, login)
        }
        // What the registry says stands in it as it came.
        source => Error::Push { registry, reason: source.to_string().escape_debug().take(SHOWN).collect() },
    }
}

fn is_denial(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Runs what waits for a disk or a program.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
