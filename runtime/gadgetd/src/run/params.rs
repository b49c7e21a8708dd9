//! The parameters that modules declare, for people.

use std::fmt::Write;

use gadgetd_host::{Description, Formatter, Gadget, Spec};

/// What the two modules can be told.
pub(super) fn list(gadget: &Gadget, formatter: &Formatter) -> String {
    let mut text = String::new();
    for (role, about) in [("Gadget", gadget.description()), ("Formatter", formatter.description())] {
        let Description { name, version, summary, params } = about;
        let _ = writeln!(text, "{role} {name} {version}: {summary}");
        if params.is_empty() {
            text.push_str("  It has no parameters.\n");
        }
        for Spec { name, help, kind, default } in params {
            let default =
                default.as_ref().map(|value| format!("; if not given: {value}")).unwrap_or_default();
            let _ = write!(text, "\n  --param {name}=…\n      {help}\n      Takes {kind}{default}\n");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
