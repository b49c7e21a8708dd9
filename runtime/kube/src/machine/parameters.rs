//! The parameters of an operation.

use std::{collections::BTreeMap, time::Duration};

use super::{operation::Accepted, refusal::Refusal};
use crate::{Trace, names::is_prefix};

/// What one document is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// One container of one pod, over its restarts.
    #[default]
    Container,
    /// One pod.
    Pod,
}

/// The parameters of an operation: the runtime's own, and what goes to the gadget and its formatter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// What one document is about.
    pub merge: Merge,
    /// After which time the recording ends by itself.
    pub timeout: Option<Duration>,
    /// What names of files and objects begin with where `spec.output` does not give one.
    pub profile_prefix: Option<String>,
    /// Which formatter writes the documents; `None` leaves it to the runner.
    pub formatter: Option<String>,
    /// Everything else.
    pub rest: BTreeMap<String, String>,
}

impl Parameters {
    /// The parameters of a Trace, with those of one operation over them.
    pub fn read(trace: &Trace, accepted: Option<&Accepted>) -> Result<Self, Refusal> {
        let mut all = trace.spec.parameters.clone();
        all.extend(accepted.iter().flat_map(|a| a.parameters.clone()));
        let merge = match all.remove("merge").as_deref() {
            None | Some("" | "container") => Merge::Container,
            Some("pod") => Merge::Pod,
            Some(other) => {
                let must = "container or pod";
                return Err(Refusal::Parameter { name: "merge", value: other.to_owned(), must });
            }
        };
        let timeout = match all.remove("timeout").filter(|t| !t.is_empty()) {
            None => None,
            Some(text) => Some(duration(&text).ok_or(Refusal::Parameter {
                name: "timeout",
                value: text,
                must: "a number of seconds, minutes or hours, such as 30s, 5m or 1h",
            })?),
        };
        let given = |word: Option<String>| word.filter(|w| !w.is_empty());
        let profile_prefix = given(all.remove("profile-prefix"));
        if let Some(prefix) = profile_prefix.as_ref().filter(|p| !is_prefix(p)) {
            let must = "of lower case letters, digits and -, and begin with a letter or digit";
            return Err(Refusal::Parameter { name: "profile-prefix", value: prefix.clone(), must });
        }
        let formatter = given(all.remove("formatter"));
        Ok(Self { merge, timeout, profile_prefix, formatter, rest: all })
    }
}

/// `30s`, `5m`, `1h`, or seconds without a letter; at least a second, at most a year.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(['s', 'm', 'h']);
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=365 * 24 * 3600).contains(&seconds).then(|| Duration::from_secs(seconds))
}
