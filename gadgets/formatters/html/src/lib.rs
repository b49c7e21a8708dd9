//! Formatter: a policy as a page for people, in one file.
//!
//! It answers what somebody asks who has to approve a profile: whose it is and what the recording is worth, what it
//! allows beyond the container engine's default and what it takes away from it, which calls are risky and what they are for,
//! and which of them only the start of the container needs. What is known of calls by their names is in
//! [`syscall_knowledge`].
//!
//! The page needs nothing but itself: no script, no font, no picture, nothing to fetch, and its own policy forbids all
//! that. It follows the reader's choice of light or dark, and prints.
//!
//! ```
//! use formatter_html::Html;
//! use gadget_sdk::{Abi, Action, Architecture, Phases, Policy, Rule, testing};
//!
//! let capture = testing::capture("web").call(Abi::Native, 165, "mount", Phases::APPLICATION).build();
//! let policy = Policy {
//!     default_action: Action::Errno(None),
//!     architectures: vec![Architecture::X86_64],
//!     rules: vec![Rule::allow(vec!["mount".into()])],
//! };
//! let document = testing::format::<Html>(&policy, &[&capture], &[]).unwrap();
//! assert!(document.body.contains("CAP_SYS_ADMIN")); // what the engine asks for before it allows this
//! ```

mod call;
mod page;

use gadget_sdk::{Capture, Description, Document, Formatter, Module, Params, Policy, formatter::Error};

gadget_sdk::export_formatter!(Html);

/// The formatter.
pub struct Html;

impl Module for Html {
    fn describe() -> Description {
        let summary =
            "A page for people: what is allowed and why, what is risky, and what the engine's default says.";
        Description::new("html", env!("CARGO_PKG_VERSION"), summary)
    }
}

impl Formatter for Html {
    fn format(_params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error> {
        let calls = call::calls(policy, about);
        Ok(Document::new("text/html", page::page(policy, about, &calls).into_string()))
    }
}
