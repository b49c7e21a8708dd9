//! Formatter: a policy as a drop-in for a unit of systemd.
//!
//! The names are those of `SystemCallFilter=` in [systemd.exec(5)]. A group of systemd's (`@timer`) stands for its calls where
//! the policy allows **all** of them on the policy's architectures, so that nothing is allowed that the policy refuses;
//! `groups=false` writes names alone. What the drop-in cannot say is refused, never written as something
//! weaker. One thing systemd does not let anybody refuse: its group `@default`. The calls of it that the policy
//! does not allow are named in a comment.
//!
//! ```
//! use formatter_systemd::Systemd;
//! use gadget_sdk::{Action, Architecture, Policy, Rule, testing};
//!
//! let policy = Policy {
//!     default_action: Action::Errno(None),
//!     architectures: vec![Architecture::X86_64],
//!     rules: vec![Rule::allow(vec!["fsync".into(), "read".into()])],
//! };
//! let document = testing::format::<Systemd>(&policy, &[], &[]).unwrap();
//! assert!(document.body.ends_with(
//!     "\
//! [Service]
//! SystemCallArchitectures=
//! SystemCallArchitectures=x86-64
//! SystemCallErrorNumber=EPERM
//! SystemCallFilter=
//! SystemCallFilter=fsync read
//! "
//! ));
//! ```
//!
//! [systemd.exec(5)]: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html

use std::collections::BTreeSet;

use gadget_sdk::{
    Action, Architecture, Capture, Description, Document, Formatter, Module, Parameters, Params, Policy,
    Rule, formatter::Error, output::printable,
};
use syscall_knowledge::{DEFAULT, GROUPS, Group, on};

gadget_sdk::export_formatter!(Systemd);

/// The formatter.
pub struct Systemd;

#[derive(Parameters)]
struct Options {
    /// Write a group of systemd's where the policy allows all its calls.
    #[param(default = true)]
    groups: bool,
}

/// The longest line of names. systemd takes longer ones; people do not.
const WIDTH: usize = 100;

/// A group that stands for fewer calls is not worth the look into systemd's manual.
const GROUP_MIN: usize = 2;

impl Module for Systemd {
    fn describe() -> Description {
        let summary = "A drop-in for a unit of systemd: SystemCallFilter= and what goes with it.";
        Description::new("systemd", env!("CARGO_PKG_VERSION"), summary).params::<Options>()
    }
}

impl Formatter for Systemd {
    fn format(params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error> {
        let options: Options = params.read();
        let allowed = allowed(policy)?;
        let otherwise = otherwise(policy.default_action)?;
        let machine = policy.architectures.iter().fold(0, |bits, it| bits | on::named(&it.to_string()));
        let mut text = String::new();
        for capture in about {
            line(&mut text, &format!("# {}", printable(&capture.container().to_string())));
            for loss in &capture.completeness().losses {
                line(&mut text, &format!("#   INCOMPLETE: {loss}"));
            }
        }
        line(
            &mut text,
            "# To be a file of the folder /etc/systemd/system/UNIT.service.d; then: systemctl daemon-reload",
        );
        let besides: Vec<_> = DEFAULT.names(machine).filter(|name| !allowed.contains(name)).collect();
        if !besides.is_empty() {
            line(&mut text, "# systemd allows these too, whatever is written here (its group @default):");
            lines(&mut text, "#   ", &besides);
        }
        line(&mut text, "[Service]");
        // A drop-in adds to what the unit says itself, unless it takes that back first.
        line(&mut text, "SystemCallArchitectures=");
        let architectures: Vec<_> = policy.architectures.iter().map(Architecture::to_string).collect();
        line(&mut text, &format!("SystemCallArchitectures={}", architectures.join(" ")));
        line(&mut text, &format!("SystemCallErrorNumber={otherwise}"));
        let groups = if options.groups { fitting(&allowed, machine) } else { Vec::new() };
        let covered: BTreeSet<_> = groups.iter().flat_map(|group| group.names(machine)).collect();
        let mut words: Vec<_> = groups.iter().map(|group| group.name).collect();
        words.sort_unstable();
        words.extend(allowed.iter().filter(|name| !covered.contains(*name)));
        line(&mut text, "SystemCallFilter=");
        lines(&mut text, "SystemCallFilter=", &words);
        Ok(Document::new("text/x-systemd-unit", text))
    }
}

/// The names that the policy allows, in their order.
fn allowed(policy: &Policy) -> Result<BTreeSet<&str>, Error> {
    let unsupported = |what: String| Err(Error::Unsupported(format!("a unit of systemd cannot say {what}")));
    let mut allowed = BTreeSet::new();
    for Rule { names, action, args } in &policy.rules {
        let first = names.first().map_or("", String::as_str);
        if *action != Action::Allow {
            return unsupported(format!("that {first} is anything else than allowed"));
        }
        if !args.is_empty() {
            return unsupported(format!("with which arguments {first} is allowed"));
        }
        for name in names {
            if name.is_empty()
                || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            {
                return unsupported(format!("a call of the name {name:?}"));
            }
            allowed.insert(name.as_str());
        }
    }
    if allowed.is_empty() {
        // An empty `SystemCallFilter=` means that everything is allowed.
        return unsupported("that nothing is allowed".into());
    }
    Ok(allowed)
}

/// What `SystemCallErrorNumber=` says about a call that is not allowed.
fn otherwise(action: Action) -> Result<String, Error> {
    let word = match action {
        Action::Errno(None) => return Ok("EPERM".into()),
        Action::Errno(Some(errno)) => return Ok(errno.to_string()),
        Action::KillProcess => return Ok("kill".into()),
        Action::Allow => "allows",
        Action::KillThread => "kills the thread of",
        Action::Trap => "sends SIGSYS for",
        Action::Log => "only logs",
        Action::Trace(_) => "asks a tracer about",
        Action::Notify => "asks an agent about",
    };
    Err(Error::Unsupported(format!(
        "a unit of systemd refuses what it does not allow, or kills; this policy {word} it (see default-action)"
    )))
}

/// The groups whose calls are all allowed, less those that add nothing to a larger one.
fn fitting(allowed: &BTreeSet<&str>, machine: u8) -> Vec<&'static Group> {
    let mut fitting: Vec<_> = GROUPS
        .iter()
        .filter(|group| group.names(machine).count() >= GROUP_MIN)
        .filter(|group| group.names(machine).all(|name| allowed.contains(name)))
        .collect();
    fitting.sort_by_key(|group| std::cmp::Reverse(group.names(machine).count()));
    let mut covered = BTreeSet::new();
    fitting.retain(|group| {
        let new = group.names(machine).filter(|name| covered.insert(*name)).count();
        new > 0
    });
    fitting
}

/// Words on as many lines as they need; systemd adds up lines of one name.
fn lines(text: &mut String, start: &str, words: &[&str]) {
    let mut current = start.to_owned();
    for word in words {
        let fresh = current.len() == start.len();
        if !fresh && current.len() + 1 + word.len() > WIDTH {
            line(text, &current);
            current = format!("{start}{word}");
        } else {
            if !fresh {
                current.push(' ');
            }
            current.push_str(word);
        }
    }
    line(text, &current);
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}
