//! What modules say of themselves, for people: their parameters, and what they ask for.

use std::fmt::Write;

use gadgetd_host::{Capability, Description, Formatter, Gadget, Role, Spec};

/// What two modules can be told.
pub(crate) fn both(gadget: &Gadget, formatter: &Formatter) -> String {
    format!("{}\n{}", one(Role::Gadget, gadget.description()), one(Role::Formatter, formatter.description()))
}

/// What a module can be told, and what it asks for.
pub(crate) fn one(role: Role, about: &Description) -> String {
    let Description { name, version, summary, params, capabilities } = about;
    let role = match role {
        Role::Gadget => "Gadget",
        Role::Formatter => "Formatter",
    };
    let mut text = format!("{role} {name} {version}: {summary}\n");
    if params.is_empty() {
        text.push_str("  It has no parameters.\n");
    }
    for Spec { name, help, kind, default } in params {
        let default = default.as_ref().map(|value| format!("; if not given: {value}")).unwrap_or_default();
        let _ = write!(text, "\n  --param {name}=…\n      {help}\n      Takes {kind}{default}\n");
    }
    for Capability { group, plural, verbs } in capabilities {
        let verbs: Vec<_> = verbs.iter().map(ToString::to_string).collect();
        let dot = if group.is_empty() { "" } else { "." };
        let _ = writeln!(text, "\n  On a cluster it asks to {} {plural}{dot}{group}.", verbs.join(", "));
    }
    text
}
