//! The end of a consumer: stops reading, finishes what is in hand within a bound, hands the rest back. Until then it
//! gives heartbeats for what its handlers have begun, which nobody else may begin meanwhile.

use super::driver::{Driver, WAKE_AGAIN};
use super::reader::Read;
use super::{Handler, upkeep};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

impl<H: Handler> Driver<H> {
    /// Stops reading, lets handlers end within the bound, hands the rest back.
    pub(super) async fn shut_down(
        mut self,
        reader: AbortOnDropHandle<()>,
        reads: mpsc::Receiver<Read>,
        heartbeat: Interval,
    ) {
        self.observation.set_ready(false);
        // Nothing is handed out or claimed from here on.
        self.halted = true;
        let deadline = Instant::now() + self.subscription.shutdown;
        // What is not done by then is handed back below.
        let _ = tokio::time::timeout_at(deadline, self.finish_what_has_begun(reader, reads, heartbeat)).await;
        self.tasks.shutdown().await;
        let leave = upkeep::leave(&self.store, &self.subscription, &self.session, &self.keys, &self.cursors);
        if tokio::time::timeout(Duration::from_secs(2), leave).await.is_err() {
            warn!(
                group = self.subscription.group,
                "the server does not answer; what is in hand will be claimed later"
            );
        }
    }

    /// Ends when the reader has ended and no handler is at work.
    async fn finish_what_has_begun(
        &mut self,
        mut reader: AbortOnDropHandle<()>,
        mut reads: mpsc::Receiver<Read>,
        mut heartbeat: Interval,
    ) {
        let mut waking = Some(self.wake_reader());
        loop {
            self.finish_what_waits();
            if waking.is_none() && self.tasks.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                _ = heartbeat.tick(), if self.inbox.has_begun() => self.keep_house(),
                _ = &mut reader, if waking.is_some() => waking = None,
                // What the last read brought stays pending for this consumer and is handed back.
                Some(_) = reads.recv() => {}
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.step(ended),
            }
        }
    }

    /// Ends the read that is under way, which may have begun or not.
    pub(super) fn wake_reader(&self) -> AbortOnDropHandle<()> {
        let (waker, store, keys) = (self.waker.clone(), self.store.clone(), self.keys.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                waker.wake(&store, &keys).await;
                tokio::time::sleep(WAKE_AGAIN).await;
            }
        }))
    }
}
