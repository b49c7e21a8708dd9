//! Modules that misbehave.
//!
//! `hostile-gadget` and `hostile-formatter` are components like any other, until [`gadget`] or [`formatter`] writes into
//! a copy of them what that copy is to do wrong. The tests next door say what the host must make of each.
//!
//! ```
//! let good = gadgetd_guests::gadget(None);
//! let panics = gadgetd_guests::gadget(Some(hostile_gadget::Misbehaviour::Panics));
//! assert_eq!(good.len(), panics.len());
//! assert_ne!(good, panics);
//! ```

use std::fmt::Debug;

/// The gadget, as it does this.
pub fn gadget(does: Option<hostile_gadget::Misbehaviour>) -> Vec<u8> {
    written(include_bytes!(env!("HOSTILE_GADGET")), hostile_gadget::choice::PREFIX, does)
}

/// The formatter, as it does this.
pub fn formatter(does: Option<hostile_formatter::Misbehaviour>) -> Vec<u8> {
    written(include_bytes!(env!("HOSTILE_FORMATTER")), hostile_formatter::choice::PREFIX, does)
}

/// The gadget that makes calls to the cluster, as it asks for these verbs: `get create`.
pub fn caller(asks: &str) -> Vec<u8> {
    overwritten(include_bytes!(env!("CALLER_GADGET")), caller_gadget::PREFIX, asks)
}

/// The gadget that is written against the contract as it was.
pub fn previous() -> Vec<u8> {
    include_bytes!(env!("PREVIOUS_GADGET")).to_vec()
}

/// A component that says to need another version of the contract, of five bytes as `0.1.0` is.
pub fn of_version(component: &[u8], version: &str) -> Vec<u8> {
    const NEEDS: &[u8] = b"@0.1.0";
    assert_eq!(version.len() + 1, NEEDS.len(), "lengths are written before it");
    let mut component = component.to_owned();
    let places = component.windows(NEEDS.len()).enumerate().filter(|(_, text)| *text == NEEDS);
    for at in places.map(|(at, _)| at + 1).collect::<Vec<_>>() {
        component[at..at + version.len()].copy_from_slice(version.as_bytes());
    }
    component
}

/// An example, by its package.
pub fn example(package: &str) -> Vec<u8> {
    let component: &[u8] = match package {
        "example-count" => include_bytes!(env!("EXAMPLE_COUNT")),
        "example-workload-configmap" => include_bytes!(env!("EXAMPLE_WORKLOAD_CONFIGMAP")),
        other => panic!("there is no example {other}"),
    };
    component.to_owned()
}

fn written(component: &[u8], prefix: &[u8], does: Option<impl Debug>) -> Vec<u8> {
    match does {
        Some(does) => overwritten(component, prefix, &format!("{does:?}")),
        None => component.to_owned(),
    }
}

/// The component with a text in its data.
fn overwritten(component: &[u8], prefix: &[u8], text: &str) -> Vec<u8> {
    let mut component = component.to_owned();
    let name = format!("{text}.");
    let mut places = component.windows(prefix.len()).enumerate().filter(|(_, text)| *text == prefix);
    // The guest looks for the prefix too, so it may stand alone elsewhere; the text is the one followed by dots.
    let is_text = |at: &usize| component[at + prefix.len()..].starts_with(b"....");
    let at = places.find_map(|(at, _)| is_text(&at).then_some(at)).expect("the guest has the text");
    let at = at + prefix.len();
    component[at..at + name.len()].copy_from_slice(name.as_bytes());
    component
}
