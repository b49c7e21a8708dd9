//! What modules say of themselves, for people: their parameters, and what they ask for.

use std::fmt::Write;

use gadgetd_host::{Capability, Description, Formatter, Gadget, Spec};

/// What the two modules can be told.
pub(super) fn list(gadget: &Gadget, formatter: &Formatter) -> String {
    let mut text = String::new();
    for (role, about) in [("Gadget", gadget.description()), ("Formatter", formatter.description())] {
        let Description { name, version, summary, params, capabilities } = about;
        let _ = writeln!(text, "{role} {name} {version}: {summary}");
        if params.is_empty() {
            text.push_str("  It has no parameters.\n");
        }
        for Spec { name, help, kind, default } in params {
            let default =
                default.as_ref().map(|value| format!("; if not given: {value}")).unwrap_or_default();
            let _ = write!(text, "\n  --param {name}=…\n      {help}\n      Takes {kind}{default}\n");
        }
        for Capability { group, plural, verbs } in capabilities {
            let verbs: Vec<_> = verbs.iter().map(ToString::to_string).collect();
            let dot = if group.is_empty() { "" } else { "." };
            let _ = writeln!(text, "\n  On a cluster it asks to {} {plural}{dot}{group}.", verbs.join(", "));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
