//! The checks of a module's description.

use std::collections::BTreeSet;

use semver::Version;

use super::role::Role;
use crate::{
    bindings::module::Description as WitDescription,
    cluster::checks::{is_group, is_label},
    contract::{
        module::{Capability, Description},
        params::{Kind, Spec},
    },
};

/// The longest text in a description, in bytes.
const TEXT_MAX_BYTES: usize = 1000;
/// The longest name, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// The most parameters of one module.
const PARAMS_MAX: usize = 64;
/// The most kinds of objects that one module may ask for.
const CAPABILITIES_MAX: usize = 64;

/// Takes the description of a module, if it keeps the rules.
pub(crate) fn check(role: Role, described: WitDescription) -> Result<Description, String> {
    let WitDescription { name, version, summary, params, capabilities } = described;
    check_name(&name).map_err(|e| format!("its name {e}"))?;
    let version = Version::parse(&version).map_err(|e| format!("its version is not semantic: {e}"))?;
    check_text(&summary).map_err(|e| format!("its summary {e}"))?;
    if params.len() > PARAMS_MAX {
        return Err(format!("it has {} parameters, more than {PARAMS_MAX}", params.len()));
    }
    let params: Vec<Spec> = params.into_iter().map(Spec::from).collect();
    let mut names = BTreeSet::new();
    for spec in &params {
        check_name(&spec.name).map_err(|e| format!("the name of a parameter {e}"))?;
        check_spec(spec).map_err(|e| format!("parameter {} {e}", spec.name))?;
        if !names.insert(&spec.name) {
            return Err(format!("parameter {} stands twice", spec.name));
        }
    }
    if role == Role::Formatter && !capabilities.is_empty() {
        return Err("it asks for objects of a cluster, which is for gadgets".to_owned());
    }
    let capabilities: Vec<_> = capabilities.into_iter().map(Capability::from).collect();
    check_capabilities(&capabilities)?;
    Ok(Description { name, version, summary, params, capabilities })
}

fn check_capabilities(capabilities: &[Capability]) -> Result<(), String> {
    if capabilities.len() > CAPABILITIES_MAX {
        return Err(format!(
            "it asks for {} kinds of objects, more than {CAPABILITIES_MAX}",
            capabilities.len()
        ));
    }
    let mut kinds = BTreeSet::new();
    for Capability { group, plural, verbs } in capabilities {
        if !is_group(group) || !is_label(plural) {
            return Err(format!(
                "it asks for {plural:?} of group {group:?}, which no kind of object is called"
            ));
        }
        if verbs.is_empty() {
            return Err(format!("it asks for {plural}, and not what to do with them"));
        }
        if !kinds.insert((group, plural)) {
            return Err(format!("it asks for {plural} twice"));
        }
    }
    Ok(())
}

fn check_spec(spec: &Spec) -> Result<(), String> {
    check_text(&spec.help).map_err(|e| format!("has a help text that {e}"))?;
    if let Kind::Choice(words) = &spec.kind {
        let mut seen = BTreeSet::new();
        for word in words {
            check_text(word).map_err(|e| format!("has a choice that {e}"))?;
            if !seen.insert(word) {
                return Err(format!("has the choice {word} twice"));
            }
        }
        if words.is_empty() {
            return Err("has nothing to choose from".to_owned());
        }
    }
    match &spec.default {
        Some(default) if !spec.kind.accepts(default) => {
            Err(format!("has a default that it does not accept: it takes {}", spec.kind))
        }
        _ => Ok(()),
    }
}

/// Lower case, words joined by `-`.
fn check_name(name: &str) -> Result<(), String> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if name.is_empty() {
        Err("is empty".to_owned())
    } else if name.len() > NAME_MAX_BYTES {
        Err(format!("is longer than {NAME_MAX_BYTES} bytes"))
    } else if name.split('-').all(is_word) {
        Ok(())
    } else {
        Err(format!("is not of lower-case words joined by `-`: {name:?}"))
    }
}

/// One line for people.
fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        Err("is empty".to_owned())
    } else if text.len() > TEXT_MAX_BYTES {
        Err(format!("is longer than {TEXT_MAX_BYTES} bytes"))
    } else if text.chars().any(char::is_control) {
        Err("holds control characters".to_owned())
    } else {
        Ok(())
    }
}
