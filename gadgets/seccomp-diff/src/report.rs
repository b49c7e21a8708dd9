//! The difference, for people and for programs.

use std::fmt::Write as _;

use gadget_sdk::{Abi, Capture, Phases, output::printable};
use serde::Serialize;
use syscall_knowledge::{Risk, purpose};

use crate::{Difference, Made, Unused, counted, profile::Profile};

/// The longest line of names.
const WIDTH: usize = 100;

/// For people.
pub(crate) fn text(difference: &Difference, profile: &Profile, capture: &Capture) -> String {
    let Difference { refused, maybe, unused } = difference;
    let mut text = format!("{} against {}\n", printable(&capture.container().to_string()), profile.label());
    let completeness = capture.completeness();
    if !completeness.from_start {
        text.push_str("  recorded while it ran: calls of its start may be missing\n");
    }
    for loss in &completeness.losses {
        text.extend(["  INCOMPLETE: ", &loss.to_string(), "\n"]);
    }
    table(&mut text, "Would be refused", refused);
    table(&mut text, "May be refused", maybe);
    match unused {
        Unused::Unlimited => {
            text.push_str("\nIt allows whatever it does not name: what of it is not used cannot be told.\n");
        }
        Unused::Names(names) => {
            let _ = writeln!(text, "\nAllowed, and not made: {}", names.len());
            for risk in [Risk::High, Risk::Elevated, Risk::Low] {
                let names = names.iter().filter(|(_, of)| *of == risk).map(|(name, _)| name.as_str());
                lines(&mut text, risk, names);
            }
        }
    }
    let _ = match refused.len() {
        0 => writeln!(text, "\nVerdict: pass. It would refuse nothing of what was recorded."),
        calls => writeln!(text, "\nVerdict: fail. It would refuse {}.", counted(calls)),
    };
    text
}

fn table(text: &mut String, title: &str, calls: &[Made]) {
    let _ = writeln!(text, "\n{title}: {}", calls.len());
    let rows: Vec<[String; 4]> = calls
        .iter()
        .map(|made| {
            let foreign = if made.abi == Abi::Native { String::new() } else { format!(" ({})", made.abi) };
            let name = printable(&made.name) + &foreign;
            [made.risk.to_string(), name, made.phases.to_string(), printable(&made.why)]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [risk, name, phases] = [width(0), width(1), width(2)];
    for row in &rows {
        let _ = writeln!(text, "  {:risk$}  {:name$}  {:phases$}  {}", row[0], row[1], row[2], row[3]);
    }
}

/// Names of one risk, on as many lines as they need.
fn lines<'a>(text: &mut String, risk: Risk, names: impl Iterator<Item = &'a str>) {
    let start = format!("  {risk:8} ");
    let mut current = start.clone();
    for name in names {
        if current.len() + 1 + name.len() > WIDTH {
            text.extend([&current, "\n"]);
            current = " ".repeat(start.len());
        }
        current.extend([" ", name]);
    }
    if current != start {
        text.extend([&current, "\n"]);
    }
}

/// For programs. The order of the fields is the order in the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    container: Container<'a>,
    against: String,
    verdict: &'static str,
    from_start: bool,
    incomplete: Vec<String>,
    refused: Vec<Call<'a>>,
    maybe: Vec<Call<'a>>,
    /// `null`: the profile allows whatever it does not name.
    unused: Option<Vec<Unmade<'a>>>,
}

#[derive(Serialize)]
struct Container<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    abi: String,
    phases: Vec<&'static str>,
    risk: String,
    purpose: &'static str,
    why: &'a str,
}

#[derive(Serialize)]
struct Unmade<'a> {
    name: &'a str,
    risk: String,
    purpose: &'static str,
}

pub(crate) fn json(
    difference: &Difference,
    profile: &Profile,
    capture: &Capture,
) -> Result<String, serde_json::Error> {
    let container = capture.container();
    let pod = container.pod.as_ref();
    let json = Json {
        container: Container {
            id: &container.id,
            name: container.name.as_deref(),
            namespace: pod.map(|pod| pod.namespace.as_str()),
            pod: pod.map(|pod| pod.name.as_str()),
        },
        against: profile.label(),
        verdict: if difference.refused.is_empty() { "pass" } else { "fail" },
        from_start: capture.completeness().from_start,
        incomplete: capture.completeness().losses.iter().map(ToString::to_string).collect(),
        refused: difference.refused.iter().map(Call::from).collect(),
        maybe: difference.maybe.iter().map(Call::from).collect(),
        unused: match &difference.unused {
            Unused::Unlimited => None,
            Unused::Names(names) => Some(names.iter().map(Unmade::from).collect()),
        },
    };
    Ok(serde_json::to_string_pretty(&json)? + "\n")
}

impl<'a> From<&'a Made> for Call<'a> {
    fn from(Made { name, abi, phases, risk, why }: &'a Made) -> Self {
        let all = [(Phases::RUNTIME, "runtime"), (Phases::APPLICATION, "application")];
        let phases = all.into_iter().filter(|(phase, _)| phases.contains(*phase)).map(|(_, word)| word);
        Self {
            name,
            abi: abi.to_string(),
            phases: phases.collect(),
            risk: risk.to_string(),
            purpose: purpose(name).about,
            why,
        }
    }
}

impl<'a> From<&'a (String, Risk)> for Unmade<'a> {
    fn from((name, risk): &'a (String, Risk)) -> Self {
        Self { name, risk: risk.to_string(), purpose: purpose(name).about }
    }
}
