//! The page.

use gadget_sdk::{Architecture, Capture, Loss, Phases, Policy};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use syscall_knowledge::{ENGINE, Engine, Group, OTHER, Risk, SYSTEMD, purpose, usual};

use crate::call::{Call, action};

const STYLE: &str = include_str!("page.css");

/// A page may do nothing: even if something got through the escaping, it could not run or fetch anything.
const FORBID: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub(crate) fn page(policy: &Policy, about: &[&Capture], calls: &[Call]) -> Markup {
    let names: Vec<_> = about.iter().map(|capture| capture.container().to_string()).collect();
    let whose = if names.is_empty() { "a container".to_owned() } else { names.join(", ") };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(FORBID);
                title { "System calls of " (whose) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "System calls of " (whose) }
                p .dim { "A seccomp profile, and the recording that it was made from." }
                @for capture in about { (provenance(capture)) }
                (figures(calls))
                (against_the_engine(calls))
                (by_purpose(calls))
                (start_and_after(calls))
                (the_policy(policy))
                footer {
                    "Made by gadgetd. Groups and their purposes are those of systemd " (SYSTEMD)
                    "; the default profile is that of " (ENGINE)
                    ". A call has a high risk if that profile asks for a capability before it allows it, or if it concerns the \
                     whole machine or other programs; an elevated one if the profile does not know it, or if it changes who \
                     the program is."
                }
            }
        }
    }
}

fn provenance(capture: &Capture) -> Markup {
    let container = capture.container();
    let completeness = capture.completeness();
    let rows = [
        ("Container", Some(container.to_string())),
        ("Id", Some(container.id.clone())),
        ("Image", container.image.clone()),
        ("Digest", container.image_digest.clone()),
        ("Started by", container.runtime.clone()),
        ("Node", container.pod.as_ref().map(|pod| pod.node.clone())),
        ("Cgroup", Some(container.cgroup.clone())),
    ];
    html! {
        dl {
            @for (name, value) in rows {
                @if let Some(value) = value.filter(|value| !value.is_empty()) {
                    dt { (name) } dd { (value) }
                }
            }
        }
        (state(completeness.from_start, &completeness.losses))
        @if !capture.refused().is_empty() {
            div .state .bad {
                "Attempted, and refused by the seccomp filter in force: "
                @for (index, call) in capture.refused().iter().enumerate() {
                    @if index > 0 { ", " }
                    (call)
                }
                "."
            }
        }
    }
}

fn state(from_start: bool, losses: &[Loss]) -> Markup {
    html! {
        div .state .bad[!losses.is_empty() || !from_start] {
            @if losses.is_empty() { strong { "Nothing was lost." } }
            @else { strong { "Incomplete: a call may be missing that the container needs." } }
            " "
            @if from_start { "Recorded from the first process on." }
            @else { "Recorded while it ran: calls of its start may be missing." }
            @if !losses.is_empty() { ul { @for loss in losses { li { (loss) } } } }
        }
    }
}

fn figures(calls: &[Call]) -> Markup {
    let count = |which: &dyn Fn(&Call) -> bool| calls.iter().filter(|call| which(call)).count();
    let figures = [
        ("calls are allowed", "", count(&|call| call.allowed)),
        ("of them have a high risk", "high", count(&|call| call.allowed && call.risk == Risk::High)),
        ("were recorded", "", count(&Call::recorded)),
        ("allowed, not recorded", "", count(&|call| call.allowed && !call.recorded())),
        ("recorded, not allowed", "", count(&|call| call.recorded() && !call.allowed)),
    ];
    html! {
        ul .figures {
            @for (what, class, number) in figures {
                li class=[(number > 0 && !class.is_empty()).then_some(class)] { b { (number) } (what) }
            }
        }
    }
}

fn against_the_engine(calls: &[Call]) -> Markup {
    let beyond: Vec<_> = calls.iter().filter(|call| call.allowed && call.engine != Engine::Allowed).collect();
    let taken: Vec<_> =
        usual().filter(|name| !calls.iter().any(|call| call.allowed && call.name == *name)).collect();
    let mut groups: Vec<(&Group, Vec<&str>)> = Vec::new();
    for name in &taken {
        let group = purpose(name);
        match groups.iter_mut().find(|(known, _)| known.name == group.name) {
            Some((_, names)) => names.push(name),
            None => groups.push((group, vec![name])),
        }
    }
    groups.sort_by_key(|(group, _)| group.about);
    html! {
        h2 { "Against the engine's default profile" }
        @if beyond.is_empty() {
            p { "It allows nothing that the default profile refuses." }
        } @else {
            p { "It allows " (beyond.len()) " that the default profile refuses:" }
            table {
                tr { th { "Call" } th { "The default profile" } th { "Recorded" } }
                @for call in &beyond {
                    tr class=(call.risk) {
                        td { code { (call.name) } } td { (default_profile(call.engine)) } td { (when(call)) }
                    }
                }
            }
        }
        @if taken.is_empty() {
            p { "It refuses nothing that the default profile allows." }
        } @else {
            p { "It refuses " (taken.len()) " that the default profile allows." }
            details {
                summary { "Which" }
                @for (group, names) in &groups {
                    h3 { (group.about) }
                    ul .calls { @for name in names { li { code { (name) } } } }
                }
            }
        }
    }
}

fn by_purpose(calls: &[Call]) -> Markup {
    let mut groups: Vec<(&Group, Vec<&Call>)> = Vec::new();
    for call in calls {
        match groups.iter_mut().find(|(known, _)| known.name == call.purpose.name) {
            Some((_, members)) => members.push(call),
            None => groups.push((call.purpose, vec![call])),
        }
    }
    let worst = |members: &[&Call]| members.iter().map(|call| call.risk).max();
    groups.sort_by_key(|(group, members)| {
        (std::cmp::Reverse(worst(members)), group.name == OTHER.name, group.about)
    });
    html! {
        h2 { "What it uses, and what for" }
        p .dim { "The purposes with the riskiest calls first." }
        @for (group, members) in &mut groups {
            @let sorted = {
                members.sort_by(|a, b| (b.risk, &a.name).cmp(&(a.risk, &b.name)));
                &*members
            };
            h3 { (group.about) @if !group.name.is_empty() { " " span .dim { (group.name) } } }
            table {
                tr { th { "Call" } th { "Risk" } th { "Recorded" } th { "ABI" } th { "Policy" } }
                @for call in sorted {
                    tr class=(call.risk) {
                        td { code { (call.name) } }
                        td .risk { (call.risk) }
                        td { (when(call)) }
                        td { (call.abis.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")) }
                        td { (call.action) }
                    }
                }
            }
        }
    }
}

fn start_and_after(calls: &[Call]) -> Markup {
    let of = |phases: Phases| calls.iter().filter(move |call| call.phases == phases);
    let lists = [
        ("Only by the container runtime, while it starts the container", Phases::RUNTIME),
        ("Only by the container's own program", Phases::APPLICATION),
        ("By both", Phases::all()),
    ];
    html! {
        h2 { "Start and after" }
        p .dim {
            "A profile is in force before the program runs: without the calls of the runtime the container does not start."
        }
        @for (title, phases) in lists {
            h3 { (title) " (" (of(phases).count()) ")" }
            @if of(phases).next().is_none() { p .dim { "None." } }
            @else { ul .calls { @for call in of(phases) { li class=(call.risk) { code { (call.name) } } } } }
        }
    }
}

fn the_policy(policy: &Policy) -> Markup {
    let architectures: Vec<_> = policy.architectures.iter().map(Architecture::to_string).collect();
    html! {
        h2 { "The policy" }
        dl {
            dt { "Any other call" } dd { (action(policy.default_action)) }
            dt { "Architectures" } dd { (architectures.join(", ")) }
        }
    }
}

fn when(call: &Call) -> &'static str {
    match (call.phases.contains(Phases::RUNTIME), call.phases.contains(Phases::APPLICATION)) {
        (true, true) => "start and program",
        (true, false) => "start",
        (false, true) => "program",
        (false, false) => "no: added",
    }
}

fn default_profile(engine: Engine) -> String {
    match engine {
        Engine::Allowed => "allows it".into(),
        Engine::With(capability) => format!("asks for {capability}"),
        Engine::Refused => "refuses it".into(),
    }
}
