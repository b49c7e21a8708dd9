//! systemd's groups of system calls, for `gadgets/knowledge`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    process::Command,
};

use anyhow::{Result, ensure};
use gadgetd_core::{Abi, Machine, Phases, Syscall};

use super::{Generated, read};
use crate::process::output;

const TABLE: &str = "gadgets/knowledge/src/groups.rs";

/// No table has a number beyond it.
const NUMBERS: u32 = 1024;

/// The architectures, each with its bit in the table.
const ARCHITECTURES: [(&str, Machine, Abi); 5] = [
    ("X86_64", Machine::X86_64, Abi::Native),
    ("X86", Machine::X86_64, Abi::Compat),
    ("X32", Machine::X86_64, Abi::X32),
    ("AARCH64", Machine::Aarch64, Abi::Native),
    ("ARM", Machine::Aarch64, Abi::Compat),
];

/// Written anew where the systemd at hand is the one that wrote it: other releases have other groups, and a machine's release
/// should not decide what the project says. Another release is taken by hand, by removing the file.
pub(super) fn files() -> Result<Vec<Generated>> {
    let there = read(TABLE).ok();
    let Some(version) = version() else {
        ensure!(there.is_some(), "there is no systemd-analyze to make {TABLE} with: install systemd");
        return Ok(vec![]);
    };
    if there.is_some_and(|there| !there.contains(&header(&version))) {
        return Ok(vec![]);
    }
    let text = output(Command::new("systemd-analyze").args(["--no-pager", "syscall-filter"]))?;
    Ok(vec![Generated::new(TABLE, table(&version, &text)?)])
}

/// The release of the systemd that is installed: the number alone, since fixes of a distribution do not change groups.
fn version() -> Option<String> {
    let text = output(Command::new("systemd-analyze").arg("--version")).ok()?;
    text.strip_prefix("systemd ")?.split_whitespace().next().map(str::to_owned)
}

fn header(version: &str) -> String {
    format!("by `cargo xtask generate` from `systemd-analyze syscall-filter` of systemd {version}.")
}

/// The Rust source of the groups that `systemd-analyze` prints.
fn table(version: &str, text: &str) -> Result<String> {
    let raw = raw(text);
    ensure!(raw.contains_key("@default"), "systemd-analyze printed no group @default");
    let on = architectures();
    let mut source = format!("//! Generated {} Do not edit.\n\nuse crate::Group;\n\n", header(version));
    writeln!(
        source,
        "/// The release of systemd that the groups are of.\npub const SYSTEMD: &str = \"{version}\";\n"
    )?;
    for (bit, (name, ..)) in ARCHITECTURES.iter().enumerate() {
        writeln!(source, "/// The bit of {}.\npub const {name}: u8 = 1 << {bit};", name.to_lowercase())?;
    }
    source.push_str("\n/// What systemd always allows.\n#[rustfmt::skip]\n");
    writeln!(source, "pub const DEFAULT: Group = {};", group("@default", &raw, &on))?;
    source.push_str("\n/// The other groups.\n#[rustfmt::skip]\npub const GROUPS: &[Group] = &[\n");
    for name in raw.keys().filter(|name| !["@default", "@known"].contains(name)) {
        writeln!(source, "    {},", group(name, &raw, &on))?;
    }
    source.push_str("];\n");
    Ok(source)
}

/// A group as it is printed: what it is for, and what it is written with: calls, and other groups.
#[derive(Default)]
struct Printed<'a> {
    about: &'a str,
    words: Vec<&'a str>,
}

type Raw<'a> = BTreeMap<&'a str, Printed<'a>>;

fn raw(text: &str) -> Raw<'_> {
    let mut groups = Raw::new();
    let mut current = None;
    for line in text.lines() {
        let word = line.trim();
        if line.starts_with('@') {
            current = Some(word);
            groups.entry(word).or_default();
        } else if line.starts_with(' ') {
            let Some(group) = current.and_then(|name| groups.get_mut(name)) else { continue };
            match word.strip_prefix('#') {
                Some(about) => group.about = about.trim(),
                None => group.words.push(word),
            }
        } else if line.starts_with('#') {
            // What follows is in no group.
            current = None;
        }
    }
    groups
}

/// The calls of a group, those of the groups in it among them.
fn calls<'a>(name: &str, raw: &Raw<'a>, into: &mut BTreeSet<&'a str>) {
    for word in raw.get(name).iter().flat_map(|group| &group.words) {
        if word.starts_with('@') {
            calls(word, raw, into);
        } else {
            into.insert(word);
        }
    }
}

fn group(name: &str, raw: &Raw<'_>, on: &BTreeMap<&str, u8>) -> String {
    let mut all = BTreeSet::new();
    calls(name, raw, &mut all);
    let known = all.iter().filter_map(|call| on.get(call).map(|bits| format!("(\"{call}\", {bits})")));
    let calls: Vec<_> = known.collect();
    let about = raw.get(name).map_or("", |group| group.about);
    format!("Group {{ name: {name:?}, about: {about:?}, calls: &[{}] }}", calls.join(", "))
}

/// On which architectures there is a call of each name.
fn architectures() -> BTreeMap<&'static str, u8> {
    let mut on = BTreeMap::new();
    for (bit, (_, machine, abi)) in ARCHITECTURES.iter().enumerate() {
        let names = (0..NUMBERS)
            .filter_map(|number| Syscall { abi: *abi, number, phases: Phases::BOTH }.name(*machine));
        for name in names {
            *on.entry(name).or_insert(0) |= 1 << bit;
        }
    }
    on
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
@default
    # System calls that are always permitted
    exit
    restart_syscall

@timer
    # Schedule operations by time
    alarm
    timerfd_create
    no_such_call

@both
    # Two
    @timer
    read

# Ungrouped System Calls (known but not included in any of the groups except @known):
#   fchmodat2
";

    #[test]
    fn groups_have_the_calls_of_the_groups_in_them() {
        let source = table("252", PRINTED).unwrap();
        assert!(source.contains("of systemd 252."), "{source}");
        // `alarm` is a call of x86 alone. What no kernel has is left out.
        assert!(
            source.contains("{ name: \"@both\", about: \"Two\", calls: &[(\"alarm\", 7), (\"read\", 31), (\"timerfd_create\", 31)] }"),
            "{source}"
        );
        assert!(!source.contains("fchmodat2") && !source.contains("no_such_call"), "{source}");
    }

    #[test]
    fn what_is_not_of_systemd_makes_no_table() {
        assert!(table("252", "systemd-analyze: command not found\n").is_err());
    }
}
