//! Gadget `seccomp-diff`: what a profile would refuse of what was recorded, and what it allows that nobody made.
//!
//! The profile is the container engine's default (`against=runtime-default`), or the text of any OCI seccomp profile, one
//! that an earlier recording gave among them: `--param against=@profile.json`. There are three answers to it:
//!
//! - **refused**: calls that were made, and that the profile does not allow. One of them makes the verdict `fail`.
//! - **maybe**: calls that were made, and that the profile allows with some arguments, leaves to a tracer or an agent, or
//!   answers as a kernel that does not have them. A recording does not know arguments, so that nothing follows.
//! - **unused**: calls that the profile allows, and that were not made. Those that every start and end needs are left out:
//!   what the gadget `seccomp` adds by itself.
//!
//! Each list has the riskiest calls first; what is known of them is in [`syscall_knowledge`].
//!
//! ```
//! use gadget_sdk::{Abi, Phases, Verdict, testing};
//! use seccomp_diff::SeccompDiff;
//!
//! let capture = testing::capture("web").call(Abi::Native, 165, "mount", Phases::APPLICATION).build();
//! let run = testing::gadget::<SeccompDiff>().run(vec![capture]);
//! let why = "web: 1 call would be refused: mount".to_owned();
//! assert_eq!(run.verdicts[0].verdict, Verdict::Fail(why));
//! ```

mod profile;
mod report;

use std::collections::BTreeSet;

use gadget_sdk::{
    Abi, Capture, Choice, Description, Document, Error, Gadget, Module, Parameters, Phases, Run, Verdict,
    log, output::printable,
};
use syscall_knowledge::{ALWAYS, ALWAYS_COMPAT, Risk, START, VDSO, risk};

use crate::profile::{Answer, Profile};

gadget_sdk::export_gadget!(SeccompDiff);

/// The gadget.
pub struct SeccompDiff;

#[derive(Parameters)]
struct Options {
    /// What to compare with: runtime-default (the default profile of container engines), or a seccomp profile as JSON, of a file
    /// as against=@profile.json.
    #[param(default = profile::RUNTIME_DEFAULT)]
    against: String,
    /// The capabilities that the container is given beyond the usual ones; runtime-default allows more to it then.
    capabilities: Vec<String>,
    /// Text for people, or JSON.
    #[param(default = Output::Text)]
    output: Output,
}

#[derive(Choice, Clone, Copy)]
enum Output {
    Text,
    Json,
}

impl Module for SeccompDiff {
    fn describe() -> Description {
        let summary =
            "Says what a seccomp profile would refuse of what was recorded, and what of it is not used.";
        Description::new("seccomp-diff", env!("CARGO_PKG_VERSION"), summary).params::<Options>()
    }
}

impl Gadget for SeccompDiff {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let Options { against, capabilities, output } = run.params().read();
        let profile = Profile::given(&against, &capabilities).map_err(Error::InvalidParameter)?;
        let mut empty = Vec::new();
        let count = captures.len();
        for capture in captures {
            if capture.syscalls().is_empty() {
                empty.push(capture.container().to_string());
                continue;
            }
            let difference = Difference::between(&profile, &capture);
            let document = match output {
                Output::Text => Document::new("text/plain", report::text(&difference, &profile, &capture)),
                Output::Json => report::json(&difference, &profile, &capture)
                    .map(|json| Document::new("application/json", json))
                    .map_err(|error| Error::Other(error.to_string()))?,
            };
            run.emit(&document, &[&capture])?;
            run.judge(&difference.verdict(&capture), &[&capture])?;
        }
        if empty.len() == count {
            let whose = if empty.is_empty() { "any container".to_owned() } else { empty.join(", ") };
            return Err(Error::Empty(format!("no call of {whose} was recorded")));
        }
        for container in &empty {
            log::warn("nothing to compare: no call was recorded", &[("container", container)]);
        }
        Ok(())
    }
}

/// What is between a profile and a recording.
struct Difference {
    refused: Vec<Made>,
    maybe: Vec<Made>,
    unused: Unused,
}

/// A call that was made.
struct Made {
    /// Its name; of one that no table knows, its number.
    name: String,
    abi: Abi,
    phases: Phases,
    risk: Risk,
    /// Why it is, or may be, refused.
    why: String,
}

/// What is allowed, and was not made.
enum Unused {
    /// These.
    Names(Vec<(String, Risk)>),
    /// Everything else: the profile allows whatever it does not name.
    Unlimited,
}

impl Difference {
    fn between(profile: &Profile, capture: &Capture) -> Self {
        let (mut refused, mut maybe) = (Vec::new(), Vec::new());
        for call in capture.syscalls() {
            let (list, why) = match profile.answer(capture.machine(), call) {
                Answer::Allowed => continue,
                Answer::Maybe(why) => (&mut maybe, why),
                Answer::Refused(why) => (&mut refused, why),
            };
            let name = call.name.clone().unwrap_or_else(|| format!("number {}", call.number));
            // What a call of next year does is not known.
            let risk = call.name.as_deref().map_or(Risk::Elevated, risk);
            list.push(Made { name, abi: call.abi, phases: call.phases, risk, why });
        }
        for list in [&mut refused, &mut maybe] {
            list.sort_by(|a, b| (b.risk, &a.name, a.abi).cmp(&(a.risk, &b.name, b.abi)));
        }
        let made: BTreeSet<&str> =
            capture.syscalls().iter().filter_map(|call| call.name.as_deref()).collect();
        let unused = profile.allowed(capture.machine()).map_or(Unused::Unlimited, |names| {
            let added = [&ALWAYS[..], &ALWAYS_COMPAT, &START, &VDSO];
            let needed = |name: &str| added.iter().any(|added| added.contains(&name));
            let unused = names.into_iter().filter(|name| !made.contains(name) && !needed(name));
            let mut unused: Vec<_> = unused.map(|name| (name.to_owned(), risk(name))).collect();
            unused.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
            Unused::Names(unused)
        });
        Self { refused, maybe, unused }
    }

    fn verdict(&self, capture: &Capture) -> Verdict {
        /// How many names a line may have.
        const MOST: usize = 10;
        if self.refused.is_empty() {
            return Verdict::Pass;
        }
        let mut names: Vec<_> = self.refused.iter().map(|made| made.name.as_str()).collect();
        names.dedup();
        let more = names.len().saturating_sub(MOST);
        names.truncate(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let calls = counted(self.refused.len());
        // A container may be called anything.
        let container: String = printable(&capture.container().to_string()).chars().take(300).collect();
        Verdict::Fail(format!("{container}: {calls} would be refused: {}{more}", names.join(", ")))
    }
}

fn counted(calls: usize) -> String {
    format!("{calls} {}", if calls == 1 { "call" } else { "calls" })
}
