//! What is counted, for people and for programs.

use example_count::Count;
use gadget_sdk::{
    Abi, Loss, Phases,
    testing::{self, CaptureBuilder},
};

fn web() -> CaptureBuilder {
    testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Native, 0, "read", Phases::APPLICATION)
        .call(Abi::Native, 59, "execve", Phases::RUNTIME)
        .call(Abi::Native, 3, "close", Phases::all())
        .call(Abi::Compat, 3, "read", Phases::APPLICATION)
        .call(Abi::Native, 999, None, Phases::APPLICATION)
        .loss(Loss::Phases(1))
}

#[test]
fn every_container_has_a_line() {
    let run = testing::gadget::<Count>().run(vec![web().build(), testing::capture("a\n").build()]);
    let lines: Vec<_> = run.emitted.iter().map(|emitted| emitted.document.body.as_str()).collect();
    let want = "shop/web-0/app: 5 system calls, 1 of them by the container runtime alone, 1 by programs of another ABI, \
                1 without a name (and some were lost)\n";
    assert_eq!(lines, [want, "a\\n: 0 system calls\n"]);
    assert_eq!(run.calls, []);
}

#[test]
fn json_is_for_programs() {
    let run = testing::gadget::<Count>().param("output", "json").run(vec![web().build()]);
    let want =
        r#"{"container":"shop/web-0/app","calls":5,"runtime":1,"foreign":1,"nameless":1,"complete":false}"#;
    assert_eq!(run.emitted[0].document.body, format!("{want}\n"));
    assert_eq!(run.emitted[0].document.media_type, "application/json");
}
