//! The document, byte for byte, and what it means to a reader.

use formatter_oci::Oci;
use gadget_sdk::{Action, Architecture, Argument, Comparison, Module, Policy, Rule, testing};
use gadgetd_core::policy as core;
use proptest::prelude::*;

fn format(policy: &Policy, compact: bool) -> String {
    let compact = if compact { "true" } else { "false" };
    let document = testing::format::<Oci>(policy, &[], &[("compact", compact)]).expect("it has a form");
    assert_eq!(document.media_type, formatter_oci::MEDIA_TYPE);
    document.body
}

fn rule(names: &[&str], action: Action, args: Vec<Argument>) -> Rule {
    Rule { names: names.iter().copied().map(str::to_owned).collect(), action, args }
}

#[test]
fn the_older_tools_document() {
    let architectures = vec![Architecture::X86_64, Architecture::X86, Architecture::X32];
    let rules = vec![rule(&["accept4", "close"], Action::Allow, vec![])];
    let policy = Policy { default_action: Action::Errno(None), architectures, rules };
    let want = r#"{
  "defaultAction": "SCMP_ACT_ERRNO",
  "architectures": [
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X32"
  ],
  "syscalls": [
    {
      "names": [
        "accept4",
        "close"
      ],
      "action": "SCMP_ACT_ALLOW"
    }
  ]
}
"#;
    assert_eq!(format(&policy, false), want);
}

#[test]
fn everything_that_a_policy_can_say() {
    let equal = Argument { index: 0, op: Comparison::Equal, value: u64::MAX, value_two: 0 };
    let masked = Argument { index: 5, op: Comparison::MaskedEqual, value: 0x7e02_0000, value_two: 0 };
    let policy = Policy {
        default_action: Action::Errno(Some(38)),
        architectures: vec![Architecture::Aarch64, Architecture::Arm],
        rules: vec![
            rule(&["socket"], Action::Errno(Some(22)), vec![equal]),
            rule(&["clone"], Action::Allow, vec![masked, equal]),
            rule(&["ptrace"], Action::Trace(None), vec![]),
        ],
    };
    insta::assert_snapshot!(format(&policy, false), @r#"
    {
      "defaultAction": "SCMP_ACT_ERRNO",
      "defaultErrnoRet": 38,
      "architectures": [
        "SCMP_ARCH_AARCH64",
        "SCMP_ARCH_ARM"
      ],
      "syscalls": [
        {
          "names": [
            "socket"
          ],
          "action": "SCMP_ACT_ERRNO",
          "errnoRet": 22,
          "args": [
            {
              "index": 0,
              "value": 18446744073709551615,
              "op": "SCMP_CMP_EQ"
            }
          ]
        },
        {
          "names": [
            "clone"
          ],
          "action": "SCMP_ACT_ALLOW",
          "args": [
            {
              "index": 5,
              "value": 2114060288,
              "valueTwo": 0,
              "op": "SCMP_CMP_MASKED_EQ"
            },
            {
              "index": 0,
              "value": 18446744073709551615,
              "op": "SCMP_CMP_EQ"
            }
          ]
        },
        {
          "names": [
            "ptrace"
          ],
          "action": "SCMP_ACT_TRACE"
        }
      ]
    }
    "#);
    insta::assert_snapshot!(format(&policy, true), @r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],"syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]},{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":5,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"},{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]},{"names":["ptrace"],"action":"SCMP_ACT_TRACE"}]}"#);
}

#[test]
fn names_are_escaped() {
    // The host lets no such name through; the document is JSON all the same.
    let rules = vec![rule(&["\"\\\n\u{1b}\u{2028}é"], Action::Allow, vec![])];
    let policy = Policy { default_action: Action::Log, architectures: vec![], rules };
    let json: serde_json::Value = serde_json::from_str(&format(&policy, false)).expect("valid JSON");
    assert_eq!(json["syscalls"][0]["names"][0], "\"\\\n\u{1b}\u{2028}é");
}

#[test]
fn it_describes_itself() {
    insta::assert_debug_snapshot!(Oci::describe(), @r#"
    Description {
        name: "oci",
        version: "0.1.0",
        summary: "The seccomp JSON of the OCI runtime specification.",
        params: [
            Spec {
                name: "compact",
                help: "Writes everything on one line.",
                kind: Kind::Boolean,
                default: Some(
                    Value::Boolean(
                        false,
                    ),
                ),
            },
        ],
        capabilities: [],
    }
    "#);
}

fn to_core(policy: &Policy) -> core::Policy {
    core::Policy {
        default_action: action(policy.default_action),
        architectures: policy.architectures.iter().copied().map(architecture).collect(),
        rules: policy
            .rules
            .iter()
            .map(|rule| core::Rule {
                names: rule.names.clone(),
                action: action(rule.action),
                args: rule.args.iter().map(argument).collect(),
            })
            .collect(),
    }
}

fn action(action: Action) -> core::Action {
    match action {
        Action::Allow => core::Action::Allow,
        Action::Errno(errno) => core::Action::Errno(errno),
        Action::KillProcess => core::Action::KillProcess,
        Action::KillThread => core::Action::KillThread,
        Action::Trap => core::Action::Trap,
        Action::Log => core::Action::Log,
        Action::Trace(message) => core::Action::Trace(message),
        Action::Notify => core::Action::Notify,
    }
}

fn architecture(architecture: Architecture) -> core::Architecture {
    match architecture {
        Architecture::X86_64 => core::Architecture::X86_64,
        Architecture::X86 => core::Architecture::X86,
        Architecture::X32 => core::Architecture::X32,
        Architecture::Aarch64 => core::Architecture::Aarch64,
        Architecture::Arm => core::Architecture::Arm,
    }
}

fn argument(argument: &Argument) -> core::Argument {
    let op = match argument.op {
        Comparison::NotEqual => core::Comparison::NotEqual,
        Comparison::Less => core::Comparison::Less,
        Comparison::LessOrEqual => core::Comparison::LessOrEqual,
        Comparison::Equal => core::Comparison::Equal,
        Comparison::GreaterOrEqual => core::Comparison::GreaterOrEqual,
        Comparison::Greater => core::Comparison::Greater,
        Comparison::MaskedEqual => core::Comparison::MaskedEqual,
    };
    core::Argument { index: argument.index, op, value: argument.value, value_two: argument.value_two }
}

proptest! {
    /// Whatever a policy says, a reader of the document understands the same.
    #[test]
    fn the_document_means_the_policy(policy in testing::strategies::policy(), compact: bool) {
        let want = to_core(&policy);
        prop_assert_eq!(want.validate(), Ok(()));
        let document = format(&policy, compact);
        let read = gadgetd_core::oci::parse(document.as_bytes()).expect("the profile is valid");
        prop_assert_eq!(read.policy.canonical(), want.canonical());
        prop_assert_eq!(document.lines().count() == 1, compact);
        prop_assert_eq!(document.chars().last(), Some('\n'));
    }
}
