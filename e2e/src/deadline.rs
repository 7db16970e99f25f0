//! Waiting for something to become true, with a bound and with the last reason why it was not.

use anyhow::{Result, anyhow};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Tries until `attempt` succeeds; after `within` the last error is the answer.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let begin = Instant::now();
    let mut last = anyhow!("no answer");
    loop {
        // An attempt that hangs must not outlive the deadline either; what the one before it said still counts.
        let left = within.saturating_sub(begin.elapsed()).max(LOOK_EVERY);
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if begin.elapsed() >= within {
            return Err(last.context(format!("not within {} s: {what}", within.as_secs())));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn the_first_success_ends_the_wait() {
        let mut tries = 0;
        let value = eventually("third try", Duration::from_secs(30), async || {
            tries += 1;
            ensure!(tries == 3, "try {tries}");
            Ok(tries)
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_that_ends_says_what_was_missing() {
        let never =
            eventually::<()>("rain", Duration::from_millis(1), async || Err(anyhow!("the sun shines")));
        let error = format!("{:#}", never.await.unwrap_err());
        assert!(error.contains("rain") && error.contains("the sun shines"), "{error}");
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_given_up() {
        let hangs = eventually::<()>("a hanging attempt", Duration::from_millis(1), async || {
            std::future::pending::<()>().await;
            Ok(())
        });
        assert!(hangs.await.is_err());
    }
}
