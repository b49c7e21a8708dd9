//! What is on the page.

use formatter_html::Html;
use gadget_sdk::{
    Abi, Action, Architecture, Argument, Capture, Comparison, Loss, Phases, Policy, Rule, testing,
};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().copied().map(str::to_owned).collect()
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy {
        default_action: Action::Errno(None),
        architectures: vec![Architecture::X86_64, Architecture::X86],
        rules,
    }
}

fn format(policy: &Policy, about: &[&Capture]) -> String {
    let document = testing::format::<Html>(policy, about, &[]).expect("it has a form");
    assert_eq!(document.media_type, "text/html");
    document.body
}

fn container() -> Capture {
    testing::capture("app")
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
        .call(Abi::Native, 165, "mount", Phases::APPLICATION)
        .call(Abi::Native, 999, None, Phases::APPLICATION)
        .build()
}

#[test]
fn a_container_with_everything() {
    let argument = Argument { index: 0, op: Comparison::Equal, value: 2, value_two: 0 };
    let rules = vec![
        Rule::allow(names(&["close", "execve", "exit", "exit_group", "mount", "read"])),
        Rule { names: names(&["socket"]), action: Action::Allow, args: vec![argument] },
    ];
    insta::assert_snapshot!(format(&policy(rules), &[&container()]).replace('>', ">\n"));
}

#[test]
fn what_the_engine_says_of_it() {
    let text = format(&policy(vec![Rule::allow(names(&["mount", "read"]))]), &[&container()]);
    assert!(text.contains("It allows 1 that the default profile refuses:"), "{text}");
    assert!(text.contains("<td>asks for CAP_SYS_ADMIN</td>"), "{text}");
    let modest = format(&policy(vec![Rule::allow(names(&["read"]))]), &[&container()]);
    assert!(modest.contains("It allows nothing that the default profile refuses."), "{modest}");
}

#[test]
fn what_was_lost_stands_above_all_else() {
    let lossy = testing::capture("app").loss(Loss::MissedEvents(3)).already_running().build();
    let text = format(&policy(vec![Rule::allow(names(&["read"]))]), &[&lossy]);
    let warning = text.find("Incomplete: a call may be missing").expect("it says so");
    assert!(text.contains("3 events that the kernel did not deliver"), "{text}");
    assert!(text.contains("calls of its start may be missing"), "{text}");
    assert!(warning < text.find("<h2>").expect("it has parts"));
}

#[test]
fn nothing_on_the_page_is_a_container_s_own() {
    let evil = "<script>alert(1)</script>\"'&";
    let capture = testing::capture(evil)
        .pod(evil, evil)
        .container(|container| {
            container.image = Some(evil.into());
            container.cgroup = evil.into();
        })
        .call(Abi::Native, 0, evil, Phases::APPLICATION)
        .build();
    let text = format(&policy(vec![Rule::allow(names(&[evil]))]), &[&capture]);
    assert!(!text.contains("<script"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let text = format(&policy(vec![Rule::allow(names(&["read"]))]), &[&container()]);
    for foreign in ["http:", "https:", "src=", "href=", "<script", "<link", "@import", "url("] {
        assert!(!text.contains(foreign), "{foreign}");
    }
    assert!(text.contains("default-src 'none'"), "{text}");
}
