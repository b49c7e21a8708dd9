//! Whether a file is a component of the world that is asked for.

use std::sync::Arc;

use semver::Version;
use wasmtime::component::Component;

use super::{error::ModuleError, role::Role};
use crate::{
    bindings::{CONTRACT, PACKAGE, interface},
    text::printable,
};

/// Checks that a file is a component, and says what else it is if it is not.
pub(crate) fn check_format(bytes: &[u8]) -> Result<(), &'static str> {
    const HEADER: usize = 8;
    match bytes.get(..HEADER) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => Err(
            "it is a core module; link it with wasm-component-ld, or wrap it with `wasm-tools component new`",
        ),
        Some(header) if header.starts_with(b"\0asm") => {
            Err("it has a version of the format that is not known")
        }
        _ if bytes.is_empty() => Err("it is empty"),
        _ if std::str::from_utf8(bytes).is_ok() => Err("it is text"),
        _ => Err("it does not begin as WebAssembly does"),
    }
}

/// Checks the interfaces that the component imports and exports against the world of its kind.
pub(crate) fn check_world(component: &Component, role: Role, label: &Arc<str>) -> Result<(), ModuleError> {
    let engine = component.engine();
    let ty = component.component_type();
    let exports: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    let imports: Vec<&str> = ty.imports(engine).map(|(name, _)| name).collect();
    let module = || label.clone();

    for name in exports.iter().chain(&imports) {
        if let Some((_, version)) = own_interface(name)
            && !version.is_some_and(|version| compatible(&CONTRACT, version))
        {
            return Err(ModuleError::Version { module: module(), found: printable((*name).to_owned()) });
        }
    }
    let has =
        |interface: &str| exports.iter().any(|name| own_interface(name).is_some_and(|(i, _)| i == interface));
    let missing: Vec<&str> = ["module", role.name()].into_iter().filter(|i| !has(i)).collect();
    if missing.contains(&role.name()) && has(role.other().name()) {
        return Err(ModuleError::WrongRole { module: module(), is: role.other() });
    }
    if !missing.is_empty() {
        let missing = missing.into_iter().map(interface).collect();
        return Err(ModuleError::Exports { module: module(), missing });
    }
    let foreign = |name: &&&str| !own_interface(name).is_some_and(|(i, _)| role.imports().contains(&i));
    let imports: Vec<_> = imports.iter().filter(foreign).map(|name| printable((*name).to_owned())).collect();
    if imports.is_empty() { Ok(()) } else { Err(ModuleError::Imports { module: module(), role, imports }) }
}

/// Name and version of an interface of the contract's package.
fn own_interface(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').map_or((rest, None), |(interface, version)| (interface, Some(version))))
}

/// Whether a host with the contract `host` runs a component that was built for `version`: within a major version (before
/// 1.0: a minor one) the contract only grows, so an older component lacks nothing, and a newer one may.
fn compatible(host: &Version, version: &str) -> bool {
    let series = |v: &Version| (v.major, if v.major == 0 { v.minor } else { 0 });
    Version::parse(version).is_ok_and(|v| series(&v) == series(host) && v.pre.is_empty() && v <= *host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_newer_and_of_the_same_series_is_compatible() {
        let rows = [
            ("0.1.0", "0.1.0", true),
            ("0.1.3", "0.1.0", true),
            ("0.1.3", "0.1.3", true),
            ("0.1.3", "0.1.4", false),
            ("0.1.3", "0.1.2-rc.1", false),
            ("0.2.0", "0.1.0", false),
            ("0.1.0", "0.2.0", false),
            ("1.4.0", "1.0.0", true),
            ("1.4.0", "1.3.9", true),
            ("1.4.0", "1.5.0", false),
            ("2.0.0", "1.4.0", false),
            ("0.1.0", "new", false),
        ];
        for (host, module, want) in rows {
            assert_eq!(compatible(&Version::parse(host).unwrap(), module), want, "{module} on {host}");
        }
    }
}
