//! The end of a consumer: stops reading, finishes what is in hand within a bound, hands the rest back.

use super::driver::Driver;
use super::reader::Read;
use super::{Handler, upkeep};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

impl<H: Handler> Driver<H> {
    /// Stops reading, lets handlers end within the bound, hands the rest back.
    pub(super) async fn shut_down(
        mut self,
        mut reader: AbortOnDropHandle<()>,
        mut reads: mpsc::Receiver<Read>,
    ) {
        self.observation.set_ready(false);
        // Nothing is handed out from here on.
        self.halted = true;
        let deadline = tokio::time::Instant::now() + self.subscription.shutdown;
        let stop = async {
            let mut nudge = tokio::time::interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = &mut reader => break,
                    // What the last read brought stays pending for this consumer and is handed back below.
                    Some(_) = reads.recv() => {}
                    _ = nudge.tick() => self.waker.wake(&self.store, &self.keys).await,
                }
            }
        };
        if tokio::time::timeout_at(deadline, stop).await.is_err() {
            reader.abort();
        }
        loop {
            self.finish_what_waits();
            match tokio::time::timeout_at(deadline, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.step(ended),
                Ok(None) | Err(_) => break,
            }
        }
        self.tasks.shutdown().await;
        let leave = upkeep::leave(&self.store, &self.subscription, &self.session, &self.keys, &self.cursors);
        if tokio::time::timeout(Duration::from_secs(2), leave).await.is_err() {
            warn!(
                group = self.subscription.group,
                "the server does not answer; what is in hand will be claimed later"
            );
        }
    }
}
