//! Signals that end a recording.

use anyhow::Result;

/// The signals that ask this command to end, as they come in. They end it no longer by themselves.
pub(crate) struct Signals {
    #[cfg(unix)]
    all: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn receive() -> Result<Self> {
        use anyhow::Context as _;
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        // Under nohup the end of the terminal is nobody's business.
        let kinds = kinds.into_iter().filter(|kind| *kind != SignalKind::hangup() || !hangup_is_ignored());
        let all: std::io::Result<_> = kinds.map(signal).collect();
        Ok(Self { all: all.context("cannot receive signals")? })
    }

    #[cfg(not(unix))]
    pub(crate) fn receive() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let each = self.all.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures::future::select_all(each).await;
    }

    /// Waits for the next.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether whoever started this process has it ignore SIGHUP, where that can be told.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
