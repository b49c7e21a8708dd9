//! What native tests of modules can rely on.

use gadget_sdk::{
    Abi, Capture, Description, Document, Error, Gadget, Loss, Module, Params, Phases, Reason, Run, Spec, log,
    params::{Kind, Param, Value},
    testing,
};

/// Emits what it was told, and logs it.
struct Echo;

impl Module for Echo {
    fn describe() -> Description {
        Description::new("echo", "1.0.0", "Says what it hears.")
            .param(Spec::text("text", "A text.").or("default"))
            .param(Spec::text("unset", "A text without a default."))
            .param(Spec::boolean("boolean", "A boolean."))
            .param(Spec::integer("integer", "An integer."))
            .param(Spec::text_list("list", "Some texts.").or(&["a", "b"][..]))
            .param(Spec::choice("choice", "A word.", &["left", "right"]).or("left"))
    }
}

impl Gadget for Echo {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let params = run.params();
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            run.reason(),
            params.text("text"),
            params.text("unset"),
            params.boolean("boolean"),
            params.integer("integer"),
            params.text_list("list"),
            params.text("choice"),
        );
        log::info("echo", &[("captures", &captures.len().to_string())]);
        let about: Vec<_> = captures.iter().collect();
        Ok(run.emit(&Document::new("text/plain", text), &about)?)
    }
}

fn said(run: &testing::GadgetRun<Echo>) -> String {
    let outcome = run.run(vec![]);
    outcome.result.expect("the run succeeds");
    outcome.emitted[0].document.body.clone()
}

#[test]
fn defaults_are_filled_in() {
    let want = r#"Reason::OnDemand Some("default") None None None ["a", "b"] Some("left")"#;
    assert_eq!(said(&testing::gadget()), want);
}

#[test]
fn values_are_typed() {
    let run = testing::gadget::<Echo>()
        .reason(Reason::ContainerEnded)
        .param("text", "x")
        .param("unset", "y")
        .param("boolean", "true")
        .param("integer", "-7")
        .param("list", "one,two")
        .param("choice", "right");
    let want =
        r#"Reason::ContainerEnded Some("x") Some("y") Some(true) Some(-7) ["one", "two"] Some("right")"#;
    assert_eq!(said(&run), want);
}

#[test]
#[should_panic(expected = "echo has no parameter `txet`")]
fn an_undeclared_parameter_is_refused() {
    testing::gadget::<Echo>().param("txet", "x").run(vec![]);
}

#[test]
#[should_panic(expected = "`choice` is none of")]
fn a_word_that_is_no_choice_is_refused() {
    testing::gadget::<Echo>().param("choice", "up").run(vec![]);
}

#[test]
#[should_panic(expected = "`integer` is no integer: 1.5")]
fn a_value_of_another_type_is_refused() {
    testing::gadget::<Echo>().param("integer", "1.5").run(vec![]);
}

#[test]
#[should_panic(expected = "parameter `n` is not declared as text")]
fn asking_for_another_type_is_a_mistake() {
    Params::new(vec![Param { name: "n".into(), value: Value::Integer(1) }]).text("n");
}

#[test]
fn a_list_without_a_value_is_empty() {
    assert_eq!(Params::new(vec![]).text_list("list"), [""; 0]);
}

#[test]
fn log_lines_are_those_of_the_run() {
    let run = testing::gadget::<Echo>();
    log::warn("outside", &[]);
    let outcome = run.run(vec![testing::capture("web").build()]);
    let lines: Vec<_> = outcome.log.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["info: echo captures=1"]);
    assert_eq!(outcome.emitted[0].about, ["web"]);
}

#[test]
fn the_cap_counts_all_documents_together() {
    let size = said(&testing::gadget()).len() as u64;
    assert!(testing::gadget::<Echo>().output_limit(size).run(vec![]).result.is_ok());
    let refused = testing::gadget::<Echo>().output_limit(size - 1).run(vec![]);
    assert_eq!(refused.result, Err(gadget_sdk::output::Error::TooLarge(size - 1).into()));
    assert!(refused.emitted.is_empty());
}

#[test]
fn captures_are_as_the_host_orders_them() {
    let capture = testing::capture("app")
        .pod("shop", "web-0")
        .call(Abi::Compat, 1, "exit", Phases::APPLICATION)
        .call(Abi::Native, 3, "close", Phases::RUNTIME)
        .call(Abi::Native, 0, "read", Phases::all())
        .loss(Loss::Phases(2))
        .already_running()
        .build();
    let calls: Vec<_> = capture.syscalls().iter().map(|call| (call.abi, call.number)).collect();
    assert_eq!(calls, [(Abi::Native, 0), (Abi::Native, 3), (Abi::Compat, 1)]);
    assert_eq!(capture.container().to_string(), "shop/web-0/app");
    assert_eq!(capture.completeness().losses, [Loss::Phases(2)]);
    assert!(!capture.completeness().from_start);
}

#[test]
fn a_description_carries_the_types() {
    let kinds: Vec<_> = Echo::describe().params.into_iter().map(|spec| spec.kind).collect();
    let choice = Kind::Choice(vec!["left".into(), "right".into()]);
    assert_eq!(kinds, [Kind::Text, Kind::Text, Kind::Boolean, Kind::Integer, Kind::TextList, choice]);
}
