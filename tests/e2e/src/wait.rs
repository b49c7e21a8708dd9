//! Waiting for conditions, never for time to pass.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The pauses between two attempts.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Tries until `attempt` succeeds; after `limit` fails with what kept it from succeeding the last time.
pub async fn eventually<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > limit => bail!("no {what} within {limit:?}: {error:?}"),
            // Whoever has waited for long can wait a little longer; a busy server should not be kept busy by questions.
            Err(_) => tokio::time::sleep((start.elapsed() / 8).clamp(SHORTEST, LONGEST)).await,
        }
    }
}
