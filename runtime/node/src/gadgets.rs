//! The modules that a node can run: those that are built in, and those of the cluster's `Gadget` objects; and what each
//! may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use gadgetd_core::kube::{Granted, Granting};
use gadgetd_host::{
    AnyModule, Capability, Formatter, Gadget, Host, Limits, ModuleError, ModuleRef, PublicKey, Role,
    Source as Origin, Spec, Trust, built_in,
};
use gadgetd_kube::{
    CALLS, GadgetAsk, GadgetParameter, GadgetSpec, GrantVerb, Source,
    controller::{InstallError, Installed},
    default_grants, default_output_modes,
    machine::{self, Availability},
};
use tokio::{sync::watch, time::timeout};

use crate::chain;

/// How long to wait for the list of Gadget objects before work goes on with the built-in modules.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The modules of a node.
pub(crate) struct Modules {
    pub(crate) host: Host,
    gadgets: BTreeMap<&'static str, Gadget>,
    formatters: BTreeMap<&'static str, Formatter>,
    objects: RwLock<BTreeMap<String, Object>>,
    /// Whether it is known which objects there are.
    listed: watch::Sender<bool>,
}

/// What is known of a `Gadget` object.
struct Object {
    spec: GadgetSpec,
    granted: Arc<Granted>,
    module: ModuleState,
}

#[derive(Clone)]
enum ModuleState {
    Pending,
    Ready(AnyModule),
    Failed(String),
}

/// Why there is no module of a name.
#[derive(Debug)]
pub(crate) enum Unavailable {
    /// It is being fetched.
    Pending,
    /// It cannot run, or does not exist.
    Failed(String),
}

impl Modules {
    /// Loads every module that is built in.
    pub(crate) async fn load(host: Host) -> Result<Self, ModuleError> {
        let (mut gadgets, mut formatters) = (BTreeMap::new(), BTreeMap::new());
        for name in built_in(Role::Gadget) {
            gadgets.insert(name, host.gadget(&ModuleRef::BuiltIn(name.into())).await?);
        }
        for name in built_in(Role::Formatter) {
            formatters.insert(name, host.formatter(&ModuleRef::BuiltIn(name.into())).await?);
        }
        let (objects, listed) = (RwLock::default(), watch::Sender::new(false));
        Ok(Self { host, gadgets, formatters, objects, listed })
    }

    fn objects<T>(&self, look: impl FnOnce(&BTreeMap<String, Object>) -> T) -> T {
        look(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Object>) -> T) -> T {
        change(&mut self.objects.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until it is known which objects there are; not for ever.
    async fn listed(&self) {
        let mut listed = self.listed.subscribe();
        if timeout(LIST_TIMEOUT, listed.wait_for(|listed| *listed)).await.is_err() {
            tracing::warn!("cannot tell which Gadget objects there are; goes on with what is built in");
            self.listed.send_replace(true);
        }
    }

    /// The gadgets that Traces may name.
    pub(crate) async fn all(&self) -> Vec<machine::Gadget> {
        self.listed().await;
        let built_in = |name: &&str| machine::Gadget {
            name: (*name).to_owned(),
            output_modes: default_output_modes(name),
            availability: Availability::Available,
        };
        let mut all: BTreeMap<_, _> =
            self.gadgets.keys().map(|name| ((*name).to_owned(), built_in(name))).collect();
        self.objects(|objects| {
            for (name, object) in objects {
                let availability = match &object.module {
                    ModuleState::Pending => Availability::Pending,
                    ModuleState::Ready(AnyModule::Gadget(_)) => Availability::Available,
                    // Its name is a formatter's, and no gadget's any more.
                    ModuleState::Ready(AnyModule::Formatter(_)) => {
                        all.remove(name);
                        continue;
                    }
                    ModuleState::Failed(reason) => Availability::Unavailable(reason.clone()),
                };
                let (name, output_modes) = (name.clone(), object.spec.output_modes());
                all.insert(name.clone(), machine::Gadget { name, output_modes, availability });
            }
        });
        all.into_values().collect()
    }

    /// The gadget of a name.
    pub(crate) fn gadget(&self, name: &str) -> Result<Gadget, Unavailable> {
        match self.object(name)? {
            Some(AnyModule::Gadget(gadget)) => Ok(gadget),
            Some(AnyModule::Formatter(_)) => {
                Err(Unavailable::Failed(format!("Gadget {name} is a formatter")))
            }
            None => {
                let found = self.gadgets.get(name).cloned();
                found.ok_or_else(|| Unavailable::Failed(format!("there is no gadget {name}")))
            }
        }
    }

    /// The formatter of a name.
    pub(crate) fn formatter(&self, name: &str) -> Result<Formatter, Unavailable> {
        match self.object(name)? {
            Some(AnyModule::Formatter(formatter)) => Ok(formatter),
            Some(AnyModule::Gadget(_)) if !self.formatters.contains_key(name) => {
                Err(Unavailable::Failed(format!("Gadget {name} is no formatter")))
            }
            _ => self.formatters.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = self.formatters.keys().copied().collect();
                let known = known.join(", ");
                Unavailable::Failed(format!(
                    "there is no formatter {name}: there are {known}, and those of Gadget objects"
                ))
            }),
        }
    }

    /// The module of an object; `None` where there is no object.
    fn object(&self, name: &str) -> Result<Option<AnyModule>, Unavailable> {
        self.objects(|objects| match objects.get(name).map(|object| &object.module) {
            None => Ok(None),
            Some(ModuleState::Ready(module)) => Ok(Some(module.clone())),
            Some(ModuleState::Pending) => Err(Unavailable::Pending),
            Some(ModuleState::Failed(reason)) => {
                Err(Unavailable::Failed(format!("Gadget {name} cannot run on this node: {reason}")))
            }
        })
    }

    /// Forgets objects that are not among these.
    pub(crate) fn retain(&self, names: &BTreeSet<String>) {
        self.change(|objects| objects.retain(|name, _| names.contains(name)));
        self.listed.send_replace(true);
    }

    pub(crate) fn remove(&self, name: &str) {
        self.change(|objects| objects.remove(name));
    }

    /// There is an object, and this is what its module may do from now on. The module that is there runs no more if it is to
    /// be another: what is about to be installed is no built-in of that name either.
    ///
    /// This alone says what an object grants: it is called in the order in which the object changes, and installing is not.
    pub(crate) fn grant(&self, name: &str, spec: &GadgetSpec) {
        let granted = Arc::new(Granted { grants: spec.grants(), calls: spec.calls() });
        self.change(|objects| {
            let before = objects.remove(name).filter(|before| before.spec.is_same_module(spec));
            let module = before.map_or(ModuleState::Pending, |before| before.module);
            objects.insert(name.to_owned(), Object { spec: spec.clone(), granted, module });
        });
    }

    /// Makes the module of an object one that can run, if the object still asks for it.
    pub(crate) async fn install(&self, name: &str, spec: &GadgetSpec) -> Result<Installed, InstallError> {
        let loaded = self.objects(|objects| {
            let object = objects.get(name).filter(|object| object.spec.is_same_module(spec));
            object.map(|object| object.module.clone())
        });
        let outcome = match (spec.source(), loaded) {
            (Err(error), _) => Err(InstallError::Refused(error.to_string())),
            (Ok(_), Some(ModuleState::Ready(module))) => Ok(module),
            (Ok(source), _) => self.fetch(source, spec).await,
        };
        self.change(|objects| {
            // It may have been removed, or have become another, meanwhile.
            if let Some(object) = objects.get_mut(name).filter(|object| object.spec.is_same_module(spec)) {
                object.module = match &outcome {
                    Ok(module) => ModuleState::Ready(module.clone()),
                    Err(error) => ModuleState::Failed(error.to_string()),
                };
            }
        });
        outcome.map(|module| installed(&module))
    }

    async fn fetch(&self, source: Source<'_>, spec: &GadgetSpec) -> Result<AnyModule, InstallError> {
        let (module, trust) = match source {
            Source::BuiltIn(name) => (ModuleRef::BuiltIn(name.to_owned()), Trust::default()),
            Source::Image(image) => {
                let keys = spec.keys.iter().map(|pem| PublicKey::from_pem(pem)).collect::<Result<_, _>>();
                let keys = keys.map_err(|error| {
                    InstallError::Refused(format!("spec.keys cannot be used: {}", chain(&error)))
                })?;
                (ModuleRef::Registry(image.to_owned()), Trust { keys, allow_unsigned: spec.allow_unsigned })
            }
        };
        let module = self.host.module_from(&module, &trust).await.map_err(|error| match &error {
            // It may be pushed or signed after its object was made.
            ModuleError::Fetch { .. } => InstallError::Unavailable(chain(&error)),
            _ => InstallError::Refused(chain(&error)),
        })?;
        Ok(module.with_limits(limits(spec, module.limits())))
    }

    /// What a gadget is granted now: by its object, or where there is none, by default.
    fn granted(&self, name: &str) -> Arc<Granted> {
        let granted = self.objects(|objects| objects.get(name).map(|object| object.granted.clone()));
        granted.unwrap_or_else(|| Arc::new(Granted { grants: default_grants(name), calls: CALLS }))
    }
}

/// The grants of one gadget, as they are at each call.
pub(crate) struct LiveGrants {
    pub(crate) modules: Arc<Modules>,
    pub(crate) gadget: String,
}

impl std::fmt::Debug for LiveGrants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("LiveGrants");
        debug.field("gadget", &self.gadget).field("granted", &self.granted()).finish_non_exhaustive()
    }
}

impl Granting for LiveGrants {
    fn granted(&self) -> Arc<Granted> {
        self.modules.granted(&self.gadget)
    }
}

/// The limits of an object, over those of the host.
fn limits(spec: &GadgetSpec, usual: &Limits) -> Limits {
    let limits = &spec.limits;
    Limits {
        memory: limits.memory().unwrap_or(usual.memory),
        call: limits.call().unwrap_or(usual.call),
        // A module that may run for longer needs a run that does.
        run: usual.run.max(limits.call().unwrap_or_default() * 2),
        output: limits.output().unwrap_or(usual.output),
        ..usual.clone()
    }
}

/// A module, as its object tells of it.
fn installed(module: &AnyModule) -> Installed {
    let about = module.description();
    let parameter = |spec: &Spec| GadgetParameter {
        name: spec.name.clone(),
        takes: spec.kind.to_string(),
        default: spec.default.as_ref().map(ToString::to_string),
        help: spec.help.clone(),
    };
    let ask = |ask: &Capability| GadgetAsk {
        group: ask.group.clone(),
        resource: ask.plural.clone(),
        verbs: ask.verbs.iter().copied().map(GrantVerb::from).collect(),
    };
    Installed {
        role: module.role().to_string(),
        version: about.version.to_string(),
        summary: about.summary.clone(),
        digest: module.digest().to_string(),
        verified_by: match module.source() {
            Origin::BuiltIn => "built-in".to_owned(),
            Origin::File(_) => "unsigned".to_owned(),
            Origin::Registry(origin) => {
                origin.signed_by.map_or_else(|| "unsigned".to_owned(), |key| key.to_string())
            }
        },
        parameters: about.params.iter().map(parameter).collect(),
        asks: about.capabilities.iter().map(ask).collect(),
    }
}

#[cfg(test)]
mod tests {
    use gadgetd_host::HostConfig;
    use gadgetd_kube::{GadgetGrant, GadgetSource};

    use super::*;

    #[test]
    fn what_the_command_line_lists_is_what_is_built_in() {
        assert_eq!(built_in(Role::Gadget).collect::<Vec<_>>(), gadgetd_kube::BUILT_IN);
    }

    #[tokio::test]
    async fn who_installs_a_module_does_not_say_what_it_may_do() {
        let modules = Modules {
            host: Host::new(HostConfig::default()).unwrap(),
            gadgets: BTreeMap::new(),
            formatters: BTreeMap::new(),
            objects: RwLock::default(),
            listed: watch::Sender::new(true),
        };
        let source = GadgetSource { built_in: Some("ghost".into()), image: None };
        let grant = GadgetGrant {
            resource: "configmaps".into(),
            verbs: vec![GrantVerb::Get],
            namespaces: vec!["shop".into()],
            names: vec!["*".into()],
            ..GadgetGrant::default()
        };
        let before = GadgetSpec { source, grants: vec![grant], ..GadgetSpec::default() };
        let after = GadgetSpec { grants: Vec::new(), ..before.clone() };
        modules.grant("one", &before);
        assert_eq!(modules.granted("one").grants.len(), 1);
        // It is taken back while the installation of before is about to begin.
        modules.grant("one", &after);
        modules.install("one", &before).await.unwrap_err();
        assert_eq!(modules.granted("one").grants.len(), 0);
        assert!(
            matches!(modules.gadget("one"), Err(Unavailable::Failed(reason)) if reason.contains("ghost"))
        );
        // It is to be another: what came of the one before does not matter.
        let image = GadgetSource { built_in: None, image: Some("registry.example/one".into()) };
        modules.grant("one", &GadgetSpec { source: image, ..after.clone() });
        modules.install("one", &after).await.unwrap_err();
        assert!(matches!(modules.gadget("one"), Err(Unavailable::Pending)));
        // It is gone.
        modules.remove("one");
        modules.install("one", &after).await.unwrap_err();
        assert!(modules.objects(BTreeMap::is_empty));
    }
}
