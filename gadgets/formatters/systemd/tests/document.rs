//! What a drop-in says, and what systemd makes of it.

use std::{env, fs, process::Command};

use formatter_systemd::Systemd;
use gadget_sdk::{
    Abi, Action, Architecture, Argument, Capture, Comparison, Loss, Phases, Policy, Rule, formatter::Error,
    testing,
};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

fn policy(default_action: Action, architectures: &[Architecture], allowed: &[&str]) -> Policy {
    Policy { default_action, architectures: architectures.to_vec(), rules: vec![Rule::allow(names(allowed))] }
}

fn format(policy: &Policy, about: &[&Capture], params: &[(&str, &str)]) -> Result<String, Error> {
    let document = testing::format::<Systemd>(policy, about, params)?;
    assert_eq!(document.media_type, "text/x-systemd-unit");
    Ok(document.body)
}

/// A server that watches descriptors and sets timers, on x86-64 alone.
fn server() -> Policy {
    let allowed = [
        "accept4",
        "alarm",
        "bind",
        "brk",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "epoll_ctl_old",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_wait",
        "epoll_wait_old",
        "eventfd",
        "eventfd2",
        "execve",
        "exit",
        "exit_group",
        "futex",
        "getitimer",
        "listen",
        "poll",
        "ppoll",
        "pselect6",
        "read",
        "select",
        "setitimer",
        "timer_create",
        "timer_delete",
        "timer_getoverrun",
        "timer_gettime",
        "timer_settime",
        "timerfd_create",
        "timerfd_gettime",
        "timerfd_settime",
        "times",
        "write",
    ];
    policy(Action::Errno(None), &[Architecture::X86_64], &allowed)
}

#[test]
fn groups_stand_for_calls_that_are_all_allowed() {
    let capture = testing::capture("app")
        .pod("shop", "cart-0")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .loss(Loss::ChildCgroups(1))
        .build();
    insta::assert_snapshot!(format(&server(), &[&capture], &[]).unwrap());
}

#[test]
fn without_groups_every_call_has_its_name() {
    let text = format(&server(), &[], &[("groups", "false")]).unwrap();
    let filters = || text.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let written: Vec<_> = filters().flat_map(str::split_whitespace).collect();
    assert_eq!(written, server().rules[0].names);
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
}

#[test]
fn a_call_that_is_missing_on_another_architecture_undoes_a_group() {
    // i386 has calls of the group that x86-64 has not, and the policy does not allow them.
    let both = Policy { architectures: vec![Architecture::X86_64, Architecture::X86], ..server() };
    let text = format(&both, &[], &[]).unwrap();
    assert!(text.contains("SystemCallArchitectures=x86-64 x86\n"), "{text}");
    assert!(!text.contains("=@io-event"), "{text}");
    assert!(text.contains("epoll_wait_old"), "{text}");
}

#[test]
fn what_becomes_of_other_calls() {
    for (action, want) in [
        (Action::Errno(None), Some("EPERM")),
        (Action::Errno(Some(38)), Some("38")),
        (Action::KillProcess, Some("kill")),
        (Action::KillThread, None),
        (Action::Trap, None),
        (Action::Log, None),
        (Action::Allow, None),
        (Action::Trace(Some(1)), None),
        (Action::Notify, None),
    ] {
        let outcome = format(&policy(action, &[Architecture::Aarch64], &["read"]), &[], &[]);
        match want {
            Some(want) => {
                let text = outcome.unwrap();
                assert!(text.contains(&format!("\nSystemCallErrorNumber={want}\n")), "{text}");
                assert!(text.contains("\nSystemCallArchitectures=arm64\n"), "{text}");
            }
            None => assert!(matches!(outcome, Err(Error::Unsupported(_))), "{action:?}: {outcome:?}"),
        }
    }
}

#[test]
fn what_a_unit_cannot_say_is_refused() {
    let argument = Argument { index: 0, op: Comparison::Equal, value: 1, value_two: 0 };
    let rule = |names: &[&str], action, args| Rule { names: self::names(names), action, args };
    for (rules, what) in [
        (vec![rule(&["socket"], Action::Allow, vec![argument])], "with which arguments socket is allowed"),
        (vec![rule(&["socket"], Action::Errno(None), vec![])], "that socket is anything else than allowed"),
        (vec![rule(&["socket\nExecStart=evil"], Action::Allow, vec![])], "a call of the name"),
        (vec![rule(&["@mount"], Action::Allow, vec![])], "a call of the name"),
        (vec![], "that nothing is allowed"),
    ] {
        let policy = Policy { rules, ..server() };
        let Err(Error::Unsupported(text)) = format(&policy, &[], &[]) else { panic!("{what}") };
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn a_name_cannot_end_the_comment() {
    let capture = testing::capture("app\n[Service]\nExecStart=evil").build();
    let text = format(&server(), &[&capture], &[]).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with('[')).count(), 1, "{text}");
    assert!(!text.lines().any(|line| line.starts_with("ExecStart")), "{text}");
}

/// systemd itself reads the drop-in without a complaint, and sees a list of what is allowed.
#[test]
fn systemd_reads_it() {
    let present = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !present {
        assert!(env::var_os("CI").is_none(), "systemd-analyze is missing; run `cargo xtask setup`");
        eprintln!("SKIPPED: systemd-analyze is missing; run `cargo xtask setup`");
        return;
    }
    let every = Policy {
        architectures: vec![Architecture::X86_64, Architecture::X86, Architecture::X32],
        ..server()
    };
    for policy in [server(), every, Policy { default_action: Action::KillProcess, ..server() }] {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = folder.path().join("web.service.d");
        fs::create_dir(&drop_ins).unwrap();
        let unit = folder.path().join("web.service");
        fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
        fs::write(drop_ins.join("seccomp.conf"), format(&policy, &[], &[]).unwrap()).unwrap();
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            // The units of this machine as well, but ours first.
            command.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()));
            command.args(arguments).arg(&unit).output().unwrap()
        };
        let verified = analyze(&["verify", "--man=no"]);
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !said.contains("seccomp.conf"), "{said}");
        let judged = analyze(&["security", "--offline=true", "--no-pager"]);
        let said = String::from_utf8_lossy(&judged.stdout);
        assert!(
            said.contains("System call allow list defined for service, and @mount is not included"),
            "{said}"
        );
    }
}
