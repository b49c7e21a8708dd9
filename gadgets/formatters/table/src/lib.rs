//! Formatter: a policy as a table for people, with what is known of each call.
//!
//! It shows more than the policy says: which program made a call (`ABI`), in which part of the
//! container's life (`PHASE`), which calls are allowed though nobody made them, which were
//! made and are not allowed, and what the recording may have missed. Plain text; what comes from outside
//! cannot steer a terminal.
//!
//! ```
//! use formatter_table::Table;
//! use gadget_sdk::{Abi, Action, Architecture, Phases, Policy, Rule, testing};
//!
//! let capture = testing::capture("web").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
//! let policy = Policy {
//!     default_action: Action::Errno(None),
//!     architectures: vec![Architecture::X86_64],
//!     rules: vec![Rule::allow(vec!["exit".into(), "read".into()])],
//! };
//! let document = testing::format::<Table>(&policy, &[&capture], &[]).unwrap();
//! assert_eq!(
//!     document.body,
//!     "\
//! web
//!   recorded from its first process on; nothing was lost
//!
//! CALL  ABI     PHASE        ACTION
//! exit  -       added        allow
//! read  native  application  allow
//!
//! 2 calls have a rule: 1 was recorded, 1 is added. Any other: refuse.
//! Architectures: x86-64.
//! "
//! );
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use gadget_sdk::{
    Abi, Action, Architecture, Argument, Capture, Comparison, Description, Document, Formatter, Module,
    Params, Phases, Policy, formatter::Error, output::printable,
};

gadget_sdk::export_formatter!(Table);

/// The formatter.
pub struct Table;

impl Module for Table {
    fn describe() -> Description {
        let summary = "A table for people: each call with who made it, when, and what happens to it.";
        Description::new("table", env!("CARGO_PKG_VERSION"), summary)
    }
}

impl Formatter for Table {
    fn format(_params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error> {
        let mut text = String::new();
        for capture in about {
            header(&mut text, capture);
        }
        let recorded = Recorded::of(about);
        columns(&mut text, &rows(policy, &recorded));
        summary(&mut text, policy, &recorded);
        Ok(Document::new("text/plain", text))
    }
}

/// Says whose recording it is, and what it is worth.
fn header(text: &mut String, capture: &Capture) {
    let container = capture.container();
    line(text, &printable(&container.to_string()));
    if let Some(image) = &container.image {
        let digest = container.image_digest.as_ref().map(|digest| format!(" ({digest})"));
        line(text, &printable(&format!("  image {image}{}", digest.unwrap_or_default())));
    }
    if let Some(runtime) = &container.runtime {
        line(text, &printable(&format!("  started by {runtime}")));
    }
    let completeness = capture.completeness();
    let since = if completeness.from_start {
        "recorded from its first process on"
    } else {
        "recorded while it ran: calls of its start may be missing"
    };
    if completeness.losses.is_empty() {
        line(text, &format!("  {since}; nothing was lost"));
    } else {
        line(text, &format!("  {since}; INCOMPLETE:"));
        for loss in &completeness.losses {
            line(text, &format!("    {loss}"));
        }
    }
    if !capture.refused().is_empty() {
        let calls: Vec<_> = capture.refused().iter().map(|call| printable(&call.to_string())).collect();
        line(text, &format!("  attempted, and refused by the filter in force: {}", calls.join(", ")));
    }
    line(text, "");
}

/// What all the recordings know of each call.
struct Recorded<'a> {
    named: BTreeMap<&'a str, Seen>,
    nameless: BTreeMap<(Abi, u32), Phases>,
    refused: BTreeSet<&'a str>,
}

#[derive(Default)]
struct Seen {
    abis: Vec<Abi>,
    phases: Phases,
}

impl<'a> Recorded<'a> {
    fn of(captures: &[&'a Capture]) -> Self {
        let refused = captures.iter().flat_map(|capture| capture.refused());
        let refused = refused.filter_map(|call| call.name.as_deref()).collect();
        let mut recorded = Self { named: BTreeMap::new(), nameless: BTreeMap::new(), refused };
        for call in captures.iter().flat_map(|capture| capture.syscalls()) {
            if let Some(name) = &call.name {
                let seen = recorded.named.entry(name).or_default();
                seen.phases |= call.phases;
                if !seen.abis.contains(&call.abi) {
                    seen.abis.push(call.abi);
                }
            } else {
                *recorded.nameless.entry((call.abi, call.number)).or_default() |= call.phases;
            }
        }
        recorded
    }
}

/// The columns of one call.
type Row = [String; 4];

/// Every call of the policy, and every recorded call that it does not name; in order of their names.
fn rows(policy: &Policy, recorded: &Recorded<'_>) -> Vec<Row> {
    let otherwise = action(policy.default_action);
    let mut rows = Vec::new();
    let ruled = policy.rules.iter().flat_map(|rule| rule.names.iter().map(move |name| (name.as_str(), rule)));
    let ruled: Vec<_> = ruled.collect();
    for (name, rule) in &ruled {
        let (abis, phases) = match recorded.named.get(name) {
            Some(seen) => (join(&seen.abis), seen.phases.to_string()),
            None if recorded.refused.contains(name) => ("-".to_owned(), "attempted".to_owned()),
            None => ("-".to_owned(), "added".to_owned()),
        };
        let mut action = action(rule.action);
        for (index, argument) in rule.args.iter().enumerate() {
            action += if index == 0 { " if " } else { " and " };
            action += &condition(argument);
        }
        rows.push([printable(name), abis, phases, action]);
    }
    for (name, seen) in &recorded.named {
        if !ruled.iter().any(|(ruled, _)| ruled == name) {
            rows.push([printable(name), join(&seen.abis), seen.phases.to_string(), otherwise.clone()]);
        }
    }
    rows.sort();
    for ((abi, number), phases) in &recorded.nameless {
        rows.push([format!("number {number}"), abi.to_string(), phases.to_string(), otherwise.clone()]);
    }
    rows
}

fn columns(text: &mut String, rows: &[Row]) {
    let head = ["CALL", "ABI", "PHASE", "ACTION"].map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [call, abi, phase] = [width(0), width(1), width(2)];
    for row in all() {
        line(text, &format!("{:call$}  {:abi$}  {:phase$}  {}", row[0], row[1], row[2], row[3]));
    }
    line(text, "");
}

fn summary(text: &mut String, policy: &Policy, recorded: &Recorded<'_>) {
    let mut names: Vec<_> = policy.rules.iter().flat_map(|rule| &rule.names).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let seen = names.iter().filter(|name| recorded.named.contains_key(*name)).count();
    let refused = recorded.named.len() - seen + recorded.nameless.len();
    let mut sentence = format!(
        "{} a rule: {} recorded, {} added.",
        count(names.len(), "call has", "calls have"),
        count(seen, "was", "were"),
        count(names.len() - seen, "is", "are"),
    );
    if refused > 0 {
        let _ = write!(
            sentence,
            " {} recorded and {} none.",
            count(refused, "was", "were"),
            if refused == 1 { "has" } else { "have" }
        );
    }
    let _ = write!(sentence, " Any other: {}.", action(policy.default_action));
    line(text, &sentence);
    let architectures: Vec<_> = policy.architectures.iter().map(Architecture::to_string).collect();
    line(text, &format!("Architectures: {}.", architectures.join(", ")));
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn join(abis: &[Abi]) -> String {
    abis.iter().map(Abi::to_string).collect::<Vec<_>>().join(", ")
}

fn action(action: Action) -> String {
    match action {
        Action::Allow => "allow".into(),
        Action::Errno(None) => "refuse".into(),
        Action::Errno(Some(errno)) => format!("refuse with errno {errno}"),
        Action::KillProcess => "kill the process".into(),
        Action::KillThread => "kill the thread".into(),
        Action::Trap => "send SIGSYS".into(),
        Action::Log => "log".into(),
        Action::Trace(None) => "ask the tracer".into(),
        Action::Trace(Some(message)) => format!("ask the tracer ({message})"),
        Action::Notify => "ask the agent".into(),
    }
}

fn condition(argument: &Argument) -> String {
    let Argument { index, value, value_two, .. } = argument;
    let sign = match argument.op {
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Equal => "=",
        Comparison::GreaterOrEqual => ">=",
        Comparison::Greater => ">",
        Comparison::MaskedEqual => return format!("argument {index} & {value:#x} = {value_two:#x}"),
    };
    format!("argument {index} {sign} {value}")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
