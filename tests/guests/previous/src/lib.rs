//! A gadget that is written against the contract as it was, and uses all of it: what it needs must never go away.
//!
//! It does not use the SDK, which moves on. Its contract is its own, in `wit/`: a copy of `sdk/wit` from before the last addition.
//! After another addition within the same minor version the copy stays as it is; with a new minor version it becomes
//! the last of the one before.

#[cfg(target_arch = "wasm32")]
mod component {
    #![allow(missing_docs, unreachable_pub, unsafe_code)] // Generated.
    #![allow(clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]

    wit_bindgen::generate!({ path: "wit", world: "gadget-module", generate_all });

    use exports::gadget::framework::{
        gadget::{Error, Guest as Gadget, Reason},
        module::{Capability, Description, Guest as Module, Verb},
    };
    use gadget::framework::{
        captures::Capture,
        formatter, kube, log, output,
        params::{self, Kind, Spec, Value},
        policy::{Action, Architecture, Policy, Rule},
    };

    struct Previous;

    export!(Previous);

    impl Module for Previous {
        fn describe() -> Description {
            let spec =
                |name: &str, kind, default| Spec { name: name.into(), help: "Helps.".into(), kind, default };
            Description {
                name: "previous".into(),
                version: "0.1.0".into(),
                summary: "Does everything that one could do.".into(),
                params: vec![
                    spec("text", Kind::Text, Some(Value::Text("a text".into()))),
                    spec("boolean", Kind::Boolean, Some(Value::Boolean(true))),
                    spec("integer", Kind::Integer, Some(Value::Integer(-1))),
                    spec("text-list", Kind::TextList, Some(Value::TextList(vec!["a".into(), "b".into()]))),
                    spec("choice", Kind::Choice(vec!["left".into(), "right".into()]), None),
                ],
                capabilities: vec![Capability {
                    group: "test.gadgetd".into(),
                    plural: "things".into(),
                    verbs: vec![Verb::Get, Verb::List, Verb::Create, Verb::Apply],
                }],
            }
        }
    }

    impl Gadget for Previous {
        fn generate(reason: Reason, captures: Vec<Capture>) -> Result<(), Error> {
            let mut said = vec![format!("{reason:?}"), format!("{:?}", output::target())];
            said.extend(params::all().iter().map(|param| format!("{}={:?}", param.name, param.value)));
            for capture in &captures {
                let (container, machine) = (capture.container(), capture.machine());
                let names: Vec<_> = capture.syscalls().into_iter().filter_map(|call| call.name).collect();
                let lost = capture.completeness().losses.len();
                said.push(format!("{} {machine:?} {} lost={lost}", container.id, names.join(" ")));
            }
            let about: Vec<_> = captures.iter().collect();
            let policy = Policy {
                default_action: Action::Errno(None),
                architectures: vec![Architecture::X8664],
                rules: vec![Rule { names: vec!["read".into()], action: Action::Allow, args: vec![] }],
            };
            let handles = captures.iter().map(|capture| capture.clone()).collect();
            let document = formatter::format(&policy, handles, None).map_err(Error::Format)?;
            output::emit(&document, &about).map_err(Error::Output)?;

            let kinds = kube::discover("test.gadgetd", "things").map_err(Error::Kube)?;
            let kind = &kinds[0];
            let object = r#"{"apiVersion": "test.gadgetd/v1", "kind": "Thing", "metadata": {"name": "one"}}"#;
            let calls = [
                kube::create(kind, Some("shop"), object).map(|_| "create"),
                kube::apply(kind, Some("shop"), object).map(|_| "apply"),
                kube::get(kind, Some("shop"), "one").map(|_| "get"),
                kube::list(kind, Some("shop"), "").map(|_| "list"),
            ];
            said.push(calls.into_iter().map(|call| call.unwrap_or("failed")).collect::<Vec<_>>().join(" "));
            let made = output::MadeObject {
                kind: kind.clone(),
                namespace: Some("shop".into()),
                name: "one".into(),
                usage: Some("so".into()),
            };
            output::made(&made, &about).map_err(Error::Output)?;
            log::log(log::Level::Info, "done", &[log::Field { name: "all".into(), value: "of it".into() }]);
            let document = formatter::Document { media_type: "text/plain".into(), body: said.join("\n") };
            output::emit(&document, &about).map_err(Error::Output)
        }
    }
}
