//! The line on a terminal that shows how a recording goes.

use std::{
    env,
    future::Future,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use rustix::{
    process::getpgrp,
    termios::{tcgetpgrp, tcgetwinsize},
};
use tokio::time::{MissedTickBehavior, interval};

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(500);

/// How a recording goes.
pub(super) struct Progress {
    /// Distinct calls so far.
    pub calls: usize,
    /// Time since the last one that was new.
    pub since_new: Option<Duration>,
}

/// Waits for something, and shows meanwhile what `look` sees, if standard error is a terminal.
pub(super) async fn during<T>(until: impl Future<Output = T>, look: impl Fn() -> Option<Progress>) -> T {
    let mut until = std::pin::pin!(until);
    let Some(mut line) = Line::new() else { return until.await };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            result = &mut until => return result,
            _ = ticks.tick() => if let Some(progress) = look() {
                line.draw(&text(&progress));
            }
        }
    }
}

fn text(progress: &Progress) -> String {
    let calls = match progress.calls {
        1 => "1 distinct call".to_owned(),
        n => format!("{n} distinct calls"),
    };
    match progress.since_new {
        Some(since) => {
            let since = humantime::format_duration(Duration::from_secs(since.as_secs()));
            format!("recording 1 container: {calls}, the last new one {since} ago")
        }
        None => "recording 1 container: nothing yet".to_owned(),
    }
}

/// The last row of the terminal.
///
/// What is recorded writes to the same terminal, and may ask questions there. So the line has a row of its own, which
/// the scrolling region leaves out (as in apt): nothing is overwritten.
struct Line {
    rows: u16,
}

impl Line {
    fn new() -> Option<Self> {
        let capable = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        (capable && io::stderr().is_terminal()).then_some(Self { rows: 0 })
    }

    fn draw(&mut self, text: &str) {
        let stderr = io::stderr();
        // In the background the terminal is somebody else's.
        let (Ok(size), true) = (tcgetwinsize(&stderr), tcgetpgrp(&stderr) == Ok(getpgrp())) else { return };
        // A terminal that does not say how large it is, is taken for the smallest there was.
        let (rows, columns) = if size.ws_row < 2 { (24, 80) } else { (size.ws_row, size.ws_col) };
        let mut out = stderr.lock();
        if rows != self.rows {
            self.rows = rows;
            // Makes room; keeps the cursor where it is: setting the region moves it.
            let _ = write!(out, "\n\x1b7\x1b[1;{}r\x1b8\x1b[1A", rows - 1);
        }
        let text: String = text.chars().take(usize::from(columns).saturating_sub(1)).collect();
        let _ = write!(out, "\x1b7\x1b[{rows};1H\x1b[2m{text}\x1b[0m\x1b[K\x1b8");
        let _ = out.flush();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.rows > 0 {
            let mut out = io::stderr().lock();
            // Clears the row, and gives the region back.
            let _ = write!(out, "\x1b7\x1b[{};1H\x1b[K\x1b[r\x1b8", self.rows);
            let _ = out.flush();
        }
    }
}
