//! Signals that are meant for the command that runs, or that end a recording.

use std::{io, thread};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getpgid, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::SignalsInfo,
    low_level::siginfo::{Cause, Origin},
};
use tokio::sync::mpsc;

/// The signals that ask gadgetd to end, as they come in.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::UnboundedReceiver<Origin>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Received {
    number: i32,
    /// Sent by the terminal (Ctrl-C, hang-up), which sends it to its whole foreground process group.
    from_terminal: bool,
}

impl Signals {
    /// From now on these signals do not end this process. One that is ignored (`nohup`) stays ignored, here
    /// and in what is executed from here.
    pub(crate) fn receive() -> Result<Self> {
        let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter();
        let wanted = wanted.filter(|signal| *signal != SIGHUP || !ignored(*signal));
        let mut signals = SignalsInfo::<signal_hook::iterator::exfiltrator::WithOrigin>::new(wanted)
            .context("cannot receive signals")?;
        let (sender, receiver) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut late = false;
                for origin in signals.forever() {
                    let signal = origin.signal;
                    if sender.send(origin).is_ok() {
                        continue;
                    }
                    // The recording is over, and the result is about to come. Who ends the recording at the very
                    // moment in which it ends by itself still wants it; who insists does not.
                    if late {
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    }
                    late = true;
                }
            })
            .context("cannot start a thread")?;
        Ok(Self(receiver))
    }

    /// The next signal.
    pub(crate) async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(origin) => Received { number: origin.signal, from_terminal: origin.cause == Cause::Kernel },
            None => std::future::pending().await,
        }
    }
}

impl Received {
    /// Its name, such as `SIGTERM`.
    pub(crate) fn name(&self) -> &'static str {
        signal_hook::low_level::signal_name(self.number).unwrap_or("a signal")
    }

    /// Passes it on to a child, unless the child has had it from the terminal too.
    pub(crate) fn forward(&self, child: Pid) -> io::Result<()> {
        if self.from_terminal && getpgid(Some(child))? == getpgid(None)? {
            tracing::debug!(signal = self.name(), "the command has it from the terminal");
            return Ok(());
        }
        tracing::debug!(signal = self.name(), "passed on to the command");
        let signal = Signal::from_named_raw(self.number).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(child, signal)?)
    }
}

/// Whether a signal is ignored by this process, by what `/proc` says.
fn ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|p| p.status());
    status.is_ok_and(|s| s.sigign & (1 << (signal - 1)) != 0)
}
