//! Lists the system calls that each container made.

use gadget_sdk::{
    Abi, Capture, Description, Document, Error, Gadget, Module, Phases, Run, Spec, Syscall, log,
};

gadget_sdk::export_gadget!(Calls);

/// The gadget.
pub struct Calls;

impl Module for Calls {
    fn describe() -> Description {
        let summary = "Lists the system calls of each container.";
        let phases = ["any", "application", "runtime"];
        let help = "Which part of the container's life is looked at.";
        Description::new("my-module", env!("CARGO_PKG_VERSION"), summary)
            .param(Spec::choice("phase", help, &phases).or("any"))
    }
}

impl Gadget for Calls {
    fn generate(run: &mut Run<'_>, captures: Vec<Capture>) -> Result<(), Error> {
        let phases = match run.params().text("phase") {
            Some("application") => Phases::APPLICATION,
            Some("runtime") => Phases::RUNTIME,
            _ => Phases::all(),
        };
        for capture in captures {
            let name = capture.container().to_string();
            if !capture.completeness().losses.is_empty() {
                log::warn("the recording is incomplete", &[("container", &name)]);
            }
            let calls: Vec<&Syscall> = capture
                .syscalls()
                .iter()
                .filter(|call| call.phases.intersects(phases))
                .collect();
            if calls.is_empty() {
                return Err(Error::Empty(name));
            }
            let mut text = format!("{name}: {} system calls\n", calls.len());
            for call in calls {
                text += &format!("  {}\n", line(call));
            }
            run.emit(&Document::new("text/plain", text), &[&capture])?;
        }
        Ok(())
    }
}

/// `read`, `number 1000` where no table knows it, `time (compat)` where it was not made in the machine's own ABI.
fn line(call: &Syscall) -> String {
    let name = call
        .name
        .clone()
        .unwrap_or_else(|| format!("number {}", call.number));
    match call.abi {
        Abi::Native => name,
        foreign => format!("{name} ({foreign})"),
    }
}

#[cfg(test)]
mod tests {
    use gadget_sdk::testing;

    use super::*;

    #[test]
    fn calls_of_the_phase_are_listed() {
        let web = || {
            testing::capture("web")
                .call(Abi::Native, 0, "read", Phases::APPLICATION)
                .call(Abi::Compat, 13, "time", Phases::RUNTIME)
                .build()
        };
        for (phase, text) in [
            ("any", "web: 2 system calls\n  read\n  time (compat)\n"),
            ("application", "web: 1 system calls\n  read\n"),
        ] {
            let run = testing::gadget::<Calls>()
                .param("phase", phase)
                .run(vec![web()]);
            assert_eq!(run.emitted[0].document.body, text);
        }
    }

    #[test]
    fn nothing_recorded_is_an_error() {
        let quiet = testing::capture("quiet").build();
        assert_eq!(
            testing::gadget::<Calls>().run(vec![quiet]).result,
            Err(Error::Empty("quiet".into()))
        );
    }
}
