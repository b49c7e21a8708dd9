//! The line on a terminal that shows how things go.

use std::{env, fmt::Display, time::Duration};

use gadgetd_kube::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use k8s_openapi::jiff::Timestamp;

/// How often it is drawn.
pub(crate) const EVERY: Duration = Duration::from_millis(500);

/// The line; where standard error is no terminal there is none. It is cleared when this is dropped.
pub(crate) struct Live {
    bar: ProgressBar,
}

impl Live {
    pub(crate) fn new() -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let target = if dumb { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Whether somebody can see it.
    pub(crate) fn is_visible(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Shows this, and that it is alive.
    pub(crate) fn show(&self, text: impl Display) {
        self.bar.set_message(text.to_string());
        self.bar.tick();
    }

    /// Lets something be told that stays, above the line.
    pub(crate) fn aside(&self, tell: impl FnOnce()) {
        self.bar.suspend(tell);
    }

    /// Tells people something that stays.
    pub(crate) fn note(&self, text: impl Display) {
        self.aside(|| crate::note(text));
    }

    /// The same, for what they should look into.
    pub(crate) fn warn(&self, text: impl Display) {
        self.aside(|| crate::warn(text));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// How a recording goes.
pub(crate) fn recording(progress: Option<&Progress>, now: Timestamp) -> String {
    let Some(progress) = progress.filter(|p| p.containers > 0) else {
        return "recording: no container yet".into();
    };
    let containers = count(progress.containers.into(), "container");
    let calls = count(progress.syscalls.into(), "distinct call");
    match &progress.last_new {
        Some(last) => {
            // Clocks differ: a call that comes from the future came now.
            let since = now.duration_since(last.0).as_secs().try_into().unwrap_or(0);
            let since = humantime::format_duration(Duration::from_secs(since));
            format!("recording {containers}: {calls}, the last new one {since} ago")
        }
        None => format!("recording {containers}: {calls}"),
    }
}

/// `1 thing`, `2 things`.
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_recording_in_words() {
        let now: Timestamp = "2026-11-25T12:01:05Z".parse().unwrap();
        let at = |time: &str| Some(Time(time.parse().unwrap()));
        let progress =
            |containers, syscalls, last_new| Progress { containers, syscalls, last_new, dropped: 0 };
        for (progress, want) in [
            (None, "recording: no container yet"),
            (Some(progress(0, 0, None)), "recording: no container yet"),
            (Some(progress(1, 0, None)), "recording 1 container: 0 distinct calls"),
            (
                Some(progress(2, 41, at("2026-11-25T12:00:00Z"))),
                "recording 2 containers: 41 distinct calls, the last new one 1m 5s ago",
            ),
            (
                Some(progress(1, 1, at("2026-11-25T12:09:00Z"))),
                "recording 1 container: 1 distinct call, the last new one 0s ago",
            ),
        ] {
            assert_eq!(recording(progress.as_ref(), now), want);
        }
    }
}
