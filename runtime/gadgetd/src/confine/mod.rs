//! `gadgetd confine`: a command under a seccomp profile, as an OCI runtime would enforce it.

mod enosys;
mod filter;
mod launch;

use std::{
    fmt::Write as _,
    fs,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context, Result};
use gadgetd_core::oci;
use rustix::thread::CapabilitySet;

use self::{filter::Filter, launch::Failed};
use crate::{
    cli::ConfineArgs,
    command::{self, NotRunnable},
    note,
    signals::Signals,
};

/// gadgetd itself failed: the code that `env`, `timeout` and `docker run` have for that.
const FAILED: u8 = 125;

/// Runs the command under the profile; the exit code is the command's.
pub(crate) fn main(args: &ConfineArgs) -> ExitCode {
    match confine(args) {
        Ok(status) => {
            if let Some(signal) = status.signal() {
                note(&format!("command {}{}", command::ending(status), why_killed(signal)));
            }
            ExitCode::from(code(status))
        }
        Err(error) => {
            note(&format!("{error:#}"));
            ExitCode::from(match (error.downcast_ref::<NotRunnable>(), error.downcast_ref::<Failed>()) {
                (Some(not_runnable), _) => not_runnable.exit_code(),
                (None, Some(Failed::Exec { .. })) => 126,
                _ => FAILED,
            })
        }
    }
}

fn confine(args: &ConfineArgs) -> Result<ExitStatus> {
    let profile = args.profile.display();
    let json = fs::read(&args.profile).with_context(|| format!("cannot read the profile {profile}"))?;
    let parsed = oci::parse(&json).with_context(|| format!("{profile} is no valid seccomp profile"))?;
    let filter =
        Filter::new(&parsed, args.runtime).with_context(|| format!("{profile} cannot be enforced"))?;
    if !filter.misspelt.is_empty() {
        note(&format!("{profile}: no kernel has a call named {}; skipped", list(&filter.misspelt)));
    }
    if !filter.skipped.is_empty() {
        note(&format!(
            "{profile}: the profile names {}, and the libseccomp of this machine does not know them: they get the default \
             action, as in a runtime that uses the same libseccomp",
            list(&filter.skipped)
        ));
    }
    let file = command::resolve(&args.command[0])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::receive()?;
        let mut running =
            launch::start(&file, &args.command, &filter, args.no_new_privileges || must_give_up())?;
        let status = command::wait(&mut running.child, &mut signals).await?;
        running.failure(&file)?;
        Ok(status)
    })
}

/// Whether the kernel takes a filter only from a process that can't gain privileges any more.
fn must_give_up() -> bool {
    !rustix::thread::capabilities(None).is_ok_and(|c| c.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

fn why_killed(signal: i32) -> &'static str {
    if signal == libc::SIGSYS { ": it made a system call that the profile kills for" } else { "" }
}

/// Names for people: the first few, and how many more.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
