//! Writes a seccomp policy as lines of text.

use gadget_sdk::{
    Action, Architecture, Capture, Description, Document, Formatter, Module, Params, Policy, Spec,
    formatter::Error, log,
};

gadget_sdk::export_formatter!(Lines);

/// The formatter.
pub struct Lines;

impl Module for Lines {
    fn describe() -> Description {
        let summary = "A seccomp policy as lines of text.";
        Description::new("my-module", env!("CARGO_PKG_VERSION"), summary)
            .param(Spec::boolean("one-line", "Write the names of a rule on one line.").or(false))
    }
}

impl Formatter for Lines {
    fn format(params: &Params, policy: &Policy, _about: &[&Capture]) -> Result<Document, Error> {
        let one_line = params.boolean("one-line") == Some(true);
        let architectures: Vec<_> = policy
            .architectures
            .iter()
            .copied()
            .map(architecture)
            .collect();
        let mut text = format!("default {}\n", action(policy.default_action));
        text += &format!("architectures {}\n", architectures.join(" "));
        let mut names = 0;
        for rule in &policy.rules {
            // What the format cannot say is an error: left out, it would be another policy.
            if !rule.args.is_empty() {
                let name = rule.names.join(", ");
                return Err(Error::Unsupported(format!(
                    "lines cannot say with which arguments {name} is called"
                )));
            }
            let action = action(rule.action);
            names += rule.names.len();
            if one_line {
                text += &format!("{action} {}\n", rule.names.join(" "));
            } else {
                rule.names
                    .iter()
                    .for_each(|name| text += &format!("{action} {name}\n"));
            }
        }
        log::debug("written", &[("names", &names.to_string())]);
        Ok(Document::new("text/plain", text))
    }
}

fn action(action: Action) -> String {
    match action {
        Action::Allow => "allow".into(),
        Action::Errno(None) => "errno".into(),
        Action::Errno(Some(errno)) => format!("errno={errno}"),
        Action::KillProcess => "kill-process".into(),
        Action::KillThread => "kill-thread".into(),
        Action::Trap => "trap".into(),
        Action::Log => "log".into(),
        Action::Trace(None) => "trace".into(),
        Action::Trace(Some(message)) => format!("trace={message}"),
        Action::Notify => "notify".into(),
    }
}

fn architecture(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "x86-64",
        Architecture::X86 => "x86",
        Architecture::X32 => "x32",
        Architecture::Aarch64 => "aarch64",
        Architecture::Arm => "arm",
    }
}

#[cfg(test)]
mod tests {
    use gadget_sdk::{Argument, Comparison, Rule, testing};

    use super::*;

    fn policy() -> Policy {
        Policy {
            default_action: Action::Errno(Some(38)),
            architectures: vec![Architecture::X86_64, Architecture::X86],
            rules: vec![Rule::allow(vec!["read".into(), "write".into()])],
        }
    }

    #[test]
    fn rules_are_written_as_lines() {
        let head = "default errno=38\narchitectures x86-64 x86\n";
        for (one_line, rules) in [
            ("false", "allow read\nallow write\n"),
            ("true", "allow read write\n"),
        ] {
            let document =
                testing::format::<Lines>(&policy(), &[], &[("one-line", one_line)]).unwrap();
            assert_eq!(document.body, format!("{head}{rules}"));
        }
    }

    #[test]
    fn what_lines_cannot_say_is_refused() {
        let mut policy = policy();
        policy.rules[0].args.push(Argument {
            index: 0,
            op: Comparison::Equal,
            value: 1,
            value_two: 0,
        });
        assert!(matches!(
            testing::format::<Lines>(&policy, &[], &[]),
            Err(Error::Unsupported(_))
        ));
    }
}
