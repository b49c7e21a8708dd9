//! Where results go: see [`Run::emit`](crate::Run::emit), [`Run::made`](crate::Run::made) and
//! [`Run::judge`](crate::Run::judge).

pub use crate::bindings::imports::output::{Error, MadeObject, ResourceTarget as Target, Verdict};

/// A text that cannot steer a terminal, end a line or end a comment: control characters are escaped as Rust has them.
/// Names of commands, containers and images come from outside, and may hold anything.
///
/// ```
/// assert_eq!(gadget_sdk::output::printable("a\x1b[2Jb\n"), r"a\u{1b}[2Jb\n");
/// ```
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}
