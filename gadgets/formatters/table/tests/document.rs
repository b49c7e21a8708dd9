//! What people see.

use formatter_table::Table;
use gadget_sdk::{
    Abi, Action, Architecture, Argument, Capture, Comparison, Loss, Phases, Policy, Refusal, Rule, testing,
};

fn format(policy: &Policy, about: &[&Capture]) -> String {
    let document = testing::format::<Table>(policy, about, &[]).expect("it has a form");
    assert_eq!(document.media_type, "text/plain");
    document.body
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

fn policy(allowed: &[&str]) -> Policy {
    Policy {
        default_action: Action::Errno(None),
        architectures: vec![Architecture::X86_64, Architecture::X86],
        rules: vec![Rule::allow(names(allowed))],
    }
}

#[test]
fn refused_calls_are_told_with_the_answer() {
    let capture = testing::capture("app")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .refused(Abi::Native, 435, "clone3", Refusal::MISSING)
        .refused(Abi::Native, 165, "mount", Refusal::Errno(Some(1)))
        .build();
    let mut policy = policy(&["read"]);
    let action = Action::Errno(Some(38));
    policy.rules.push(Rule { names: names(&["clone3"]), action, args: Vec::new() });
    let text = format(&policy, &[&capture]);
    assert!(
        text.contains("  attempted, and refused by the filter in force: mount (EPERM), clone3 (ENOSYS)\n"),
        "{text}"
    );
    let row = text.lines().find(|line| line.starts_with("clone3")).expect("it is in the policy");
    assert!(row.contains("attempted") && !row.contains("added"), "{row}");
}

#[test]
fn a_container_with_everything() {
    let capture = testing::capture("app")
        .pod("shop", "cart-0")
        .container(|container| {
            container.image = Some("docker.io/library/shop:1".into());
            container.image_digest = Some("sha256:0123".into());
            container.runtime = Some("runc 1.1.5".into());
        })
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Compat, 3, "read", Phases::APPLICATION)
        .call(Abi::Native, 3, "close", Phases::all())
        .call(Abi::Native, 59, "execve", Phases::RUNTIME)
        .call(Abi::Native, 101, "ptrace", Phases::APPLICATION)
        .call(Abi::Native, 999, None, Phases::APPLICATION)
        .loss(Loss::UnknownNumbers(2))
        .loss(Loss::ChildCgroups(1))
        .already_running()
        .build();
    let text = format(&policy(&["close", "execve", "exit", "exit_group", "read"]), &[&capture]);
    insta::assert_snapshot!(text, @"
    shop/cart-0/app
      image docker.io/library/shop:1 (sha256:0123)
      started by runc 1.1.5
      recorded while it ran: calls of its start may be missing; INCOMPLETE:
        2 calls with a number that no table has
        1 cgroups made inside the container that could not be followed

    CALL        ABI             PHASE                 ACTION
    close       native          runtime, application  allow
    execve      native          runtime               allow
    exit        -               added                 allow
    exit_group  -               added                 allow
    ptrace      native          application           refuse
    read        native, compat  application           allow
    number 999  native          application           refuse

    5 calls have a rule: 3 were recorded, 2 are added. 2 were recorded and have none. Any other: refuse.
    Architectures: x86-64, x86.
    ");
}

#[test]
fn rules_with_conditions() {
    let condition = |op| Argument { index: 1, op, value: 16, value_two: 32 };
    let rule = |action, args| Rule { names: names(&["socket"]), action, args };
    let policy = Policy {
        default_action: Action::KillProcess,
        architectures: vec![Architecture::Aarch64],
        rules: vec![
            rule(Action::Allow, vec![condition(Comparison::Equal), condition(Comparison::Less)]),
            rule(Action::Errno(Some(97)), vec![condition(Comparison::MaskedEqual)]),
            rule(Action::Log, vec![condition(Comparison::GreaterOrEqual)]),
        ],
    };
    insta::assert_snapshot!(format(&policy, &[]), @"
    CALL    ABI  PHASE  ACTION
    socket  -    added  allow if argument 1 = 16 and argument 1 < 16
    socket  -    added  log if argument 1 >= 16
    socket  -    added  refuse with errno 97 if argument 1 & 0x10 = 0x20

    1 call has a rule: 0 were recorded, 1 is added. Any other: kill the process.
    Architectures: arm64.
    ");
}

#[test]
fn merged_recordings() {
    let one = testing::capture("one").call(Abi::Native, 0, "read", Phases::RUNTIME).build();
    let two = testing::capture("two").call(Abi::X32, 0, "read", Phases::APPLICATION).build();
    insta::assert_snapshot!(format(&policy(&["read"]), &[&one, &two]), @"
    one
      recorded from its first process on; nothing was lost

    two
      recorded from its first process on; nothing was lost

    CALL  ABI          PHASE                 ACTION
    read  native, x32  runtime, application  allow

    1 call has a rule: 1 was recorded, 0 are added. Any other: refuse.
    Architectures: x86-64, x86.
    ");
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let capture = testing::capture("\u{1b}]0;gotcha\u{7}\r\n")
        .container(|container| container.image = Some("\u{9b}31m".into()))
        .call(Abi::Native, 0, "read\u{1b}[2J", Phases::APPLICATION)
        .build();
    let text = format(&policy(&["wri\tte"]), &[&capture]);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert!(text.contains("gotcha"));
}

#[test]
fn columns_do_not_depend_on_how_long_a_name_is() {
    let long = "a".repeat(64);
    let capture = testing::capture("app").call(Abi::Native, 0, "read", Phases::APPLICATION).build();
    let text = format(&policy(&[&long, "read"]), &[&capture]);
    let columns: Vec<_> = text.lines().filter_map(|line| line.find("allow")).collect();
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0], columns[1]);
}
