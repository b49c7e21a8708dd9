//! How a reference becomes a module that can run.

use std::{borrow::Cow, sync::Arc};

use wasmtime::component::Component;

use super::{
    description,
    digest::Digest,
    error::ModuleError,
    loaded::{AnyModule, Formatter, Gadget, Module},
    role::Role,
    source::{self, ModuleRef},
    trust::Trust,
    world,
};
use crate::{
    bindings::interface,
    contract::{formatter::Format, gadget::Generate, module::Describe},
    host::Host,
    sandbox::{compile::CompileError, fault::ModuleFault, store::StoreData},
    text::printable,
};

impl Host {
    /// Gets a gadget ready to run: reads, checks and compiles it, and asks it to describe itself. None out of a registry:
    /// that takes [`Host::gadget_from`], and somebody who is trusted.
    pub async fn gadget(&self, module: &ModuleRef) -> Result<Gadget, ModuleError> {
        self.gadget_from(module, &Trust::default()).await
    }

    /// Gets a gadget ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn gadget_from(&self, module: &ModuleRef, trust: &Trust) -> Result<Gadget, ModuleError> {
        Ok(Gadget(Arc::new(self.load(Role::Gadget, module, trust).await?)))
    }

    /// Gets a formatter ready to run, as [`Host::gadget`] does.
    pub async fn formatter(&self, module: &ModuleRef) -> Result<Formatter, ModuleError> {
        self.formatter_from(module, &Trust::default()).await
    }

    /// Gets a formatter ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn formatter_from(&self, module: &ModuleRef, trust: &Trust) -> Result<Formatter, ModuleError> {
        Ok(Formatter(Arc::new(self.load(Role::Formatter, module, trust).await?)))
    }

    /// Gets a module of either kind ready to run, as [`Host::gadget`] does.
    pub async fn module(&self, module: &ModuleRef) -> Result<AnyModule, ModuleError> {
        self.module_from(module, &Trust::default()).await
    }

    /// Gets a module of either kind ready to run, as [`Host::gadget`] does, if it comes from whom this trusts.
    pub async fn module_from(&self, module: &ModuleRef, trust: &Trust) -> Result<AnyModule, ModuleError> {
        let formatter = async || self.formatter_from(module, trust).await.map(AnyModule::Formatter);
        match self.gadget_from(module, trust).await {
            Ok(gadget) => Ok(AnyModule::Gadget(gadget)),
            Err(ModuleError::WrongRole { .. }) => formatter().await,
            Err(ModuleError::Unknown { name, known, .. }) => match formatter().await {
                Err(ModuleError::Unknown { known: formatters, .. }) => {
                    let known = known.into_iter().chain(formatters).collect();
                    Err(ModuleError::Unknown { role: None, name, known })
                }
                found => found,
            },
            Err(error) => Err(error),
        }
    }

    async fn load(&self, role: Role, module: &ModuleRef, trust: &Trust) -> Result<Module, ModuleError> {
        let label: Arc<str> = format!("{role} {module}").into();
        let (bytes, source) =
            source::fetch(role, module, trust, self.limits.module_size, self.registry.as_deref()).await?;
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        world::check_format(&bytes).map_err(|reason| ModuleError::NotAComponent {
            module: label.clone(),
            reason: reason.to_owned(),
        })?;
        let component = self.compiled(&label, &digest, bytes).await?;
        world::check_world(&component, role, &label)?;

        let shape = |error: wasmtime::Error| ModuleError::Shape {
            module: label.clone(),
            reason: printable(format!("{error:#}")),
        };
        let linker = match role {
            Role::Gadget => &self.linkers.gadgets,
            Role::Formatter => &self.linkers.formatters,
        };
        let pre = linker.instantiate_pre(&component).map_err(shape)?;
        let export = |interface_name: &str, function: &str| {
            let instance = component.get_export_index(None, &*interface(interface_name));
            let found = instance.and_then(|i| component.get_export_index(Some(&i), function));
            found.ok_or_else(|| shape(wasmtime::Error::msg(format!("it has no function `{function}`"))))
        };
        let main = match role {
            Role::Gadget => export("gadget", "generate")?,
            Role::Formatter => export("formatter", "format")?,
        };
        let describe = export("module", "describe")?;

        let _permit = self.permit().await;
        let _tick = self.engine.tick();
        let mut store =
            StoreData::describing(label.clone(), self.limits.clone()).into_store(&self.engine.wasmtime);
        let described = async {
            let instance = pre.instantiate_async(&mut store).await?;
            let describe: wasmtime::Result<Describe> = instance.get_typed_func(&mut store, describe);
            let checked = describe.and_then(|describe| {
                match role {
                    Role::Gadget => drop::<Generate>(instance.get_typed_func(&mut store, main)?),
                    Role::Formatter => drop::<Format>(instance.get_typed_func(&mut store, main)?),
                }
                Ok(describe)
            });
            match checked {
                Ok(describe) => describe.call_async(&mut store, ()).await.map(|(d,)| Ok(d)),
                Err(error) => Ok(Err(error)),
            }
        };
        let described = described.await.map_err(|error| {
            let fault = store.data().fault(&error);
            ModuleError::Describe(ModuleFault { module: label.clone(), fault })
        })?;
        let description = description::check(role, described.map_err(shape)?)
            .map_err(|reason| ModuleError::Description { module: label.clone(), reason })?;
        tracing::info!(%source, %digest, "{label} is ready: {} {}", description.name, description.version);
        let limits = self.limits.clone();
        Ok(Module { label, limits, source, digest, size, description, pre, main })
    }

    /// The compiled component, from the cache if it is there.
    async fn compiled(
        &self,
        label: &Arc<str>,
        digest: &Digest,
        bytes: Cow<'static, [u8]>,
    ) -> Result<Component, ModuleError> {
        if let Some(component) = self.cache.as_ref().and_then(|c| c.load(&self.engine.wasmtime, digest)) {
            return Ok(component);
        }
        let compiled = self.compiler.compile(bytes).await;
        let component = compiled.map_err(|error| match error {
            CompileError::Timeout(limit) => ModuleError::CompileTimeout { module: label.clone(), limit },
            CompileError::Refused(reason) => ModuleError::Compile { module: label.clone(), reason },
        })?;
        if let Some(cache) = &self.cache {
            cache.save(digest, &component);
        }
        Ok(component)
    }
}
