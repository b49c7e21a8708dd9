//! Example: a gadget that only counts. For each container one line, or one JSON object, and nothing on the cluster.
//!
//! ```console
//! # gadgetd run --gadget ./example_count.wasm -- true
//! true: 26 system calls, 2 of them by the container runtime alone
//! ```
//!
//! ```
//! use example_count::Count;
//! use gadget_sdk::{Abi, Phases, testing};
//!
//! let web = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
//! let run = testing::gadget::<Count>().run(vec![web]);
//! assert_eq!(run.emitted[0].document.body, "web: 1 system call\n");
//! ```

use std::fmt::Write as _;

use gadget_sdk::{
    Abi, Capture, Choice, Description, Document, Error, Gadget, Module, Parameters, Phases, Run,
    output::printable,
};
use serde::Serialize;

gadget_sdk::export_gadget!(Count);

/// The gadget.
pub struct Count;

#[derive(Parameters)]
struct Options {
    /// Text for people, or JSON.
    #[param(default = Output::Text)]
    output: Output,
}

#[derive(Choice)]
enum Output {
    Text,
    Json,
}

impl Module for Count {
    fn describe() -> Description {
        Description::new("count", env!("CARGO_PKG_VERSION"), "Counts the system calls of each container.")
            .params::<Options>()
    }
}

impl Gadget for Count {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let Options { output } = run.params().read();
        // One by one: of a thousand captures only one is in memory.
        for capture in captures {
            let counts = Counts::of(&capture);
            let document = match output {
                Output::Text => Document::new("text/plain", counts.text()),
                Output::Json => {
                    let json =
                        serde_json::to_string(&counts).map_err(|error| Error::Other(error.to_string()))?;
                    Document::new("application/json", json + "\n")
                }
            };
            run.emit(&document, &[&capture])?;
        }
        Ok(())
    }
}

/// How many calls there are of each kind.
#[derive(Serialize)]
struct Counts {
    container: String,
    /// All of them.
    calls: usize,
    /// Those that the container runtime made, and the container did not.
    runtime: usize,
    /// Those that a program of another ABI made.
    foreign: usize,
    /// Those that no table has a name for.
    nameless: usize,
    complete: bool,
}

impl Counts {
    fn of(capture: &Capture) -> Self {
        let calls = capture.syscalls();
        Self {
            container: capture.container().to_string(),
            calls: calls.len(),
            runtime: calls.iter().filter(|call| call.phases == Phases::RUNTIME).count(),
            foreign: calls.iter().filter(|call| call.abi != Abi::Native).count(),
            nameless: calls.iter().filter(|call| call.name.is_none()).count(),
            complete: capture.completeness().losses.is_empty(),
        }
    }

    fn text(&self) -> String {
        let calls = if self.calls == 1 { "system call" } else { "system calls" };
        let mut text = format!("{}: {} {calls}", printable(&self.container), self.calls);
        let parts = [
            (self.runtime, "of them by the container runtime alone"),
            (self.foreign, "by programs of another ABI"),
            (self.nameless, "without a name"),
        ];
        for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
            let _ = write!(text, ", {count} {what}");
        }
        if !self.complete {
            text += " (and some were lost)";
        }
        text + "\n"
    }
}
