//! The task that sends: gathers spans into batches, tells once a minute that they are lost, and that they are taken
//! again. A batch is tried once: what comes later is worth more than what was.

use crate::collector::Collector;
use crate::{Lost, Settings};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Spans in one request, as many as the SDK's own sender takes.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
const WARN_EVERY: Duration = Duration::from_mins(1);

pub(crate) struct Sender {
    collector: Collector,
    lost: Lost,
    told: Told,
}

impl Sender {
    pub(crate) fn new(settings: Settings, resource: &Resource, lost: Lost) -> Self {
        Self { collector: Collector::new(settings, resource), lost, told: Told::default() }
    }

    /// Sends until it is told to stop, then what is left.
    pub(crate) async fn run(mut self, mut spans: mpsc::Receiver<SpanData>, mut stop: oneshot::Receiver<()>) {
        let mut stopping = false;
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                received = spans.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                }
                _ = &mut stop, if !stopping => {
                    stopping = true;
                    spans.close();
                    continue;
                }
            }
            if !stopping {
                tokio::select! {
                    () = fill(&mut spans, &mut batch) => {}
                    () = tokio::time::sleep(LINGER) => {}
                    _ = &mut stop => stopping = true,
                }
                if stopping {
                    spans.close();
                }
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        let sent = self.collector.send(batch).await;
        self.lost.done(spans, *sent.as_ref().unwrap_or(&spans));
        let lost = self.lost.count();
        let why = match &sent {
            Ok(0) => None,
            Ok(_) => Some("refused by the collector".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        match self.told.next(why.is_none(), lost, Instant::now()) {
            Some(News::Losing) => {
                let why = why.unwrap_or_else(|| "more than the queue takes".to_owned());
                tracing::warn!(lost, why, "spans are lost on the way to the collector");
            }
            Some(News::TakenAgain) => tracing::info!(lost, "the collector takes spans again"),
            None => {}
        }
    }
}

async fn fill(spans: &mut mpsc::Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    while batch.len() < BATCH && spans.recv_many(batch, BATCH - batch.len()).await > 0 {}
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Losing,
    TakenAgain,
}

/// What was told of losses; pure.
#[derive(Debug, Default)]
struct Told {
    /// How many were told as lost.
    lost: u64,
    /// When, as long as spans are being lost.
    losing: Option<Instant>,
}

impl Told {
    /// What is worth a line after a batch. `taken`: all of it arrived; `lost`: spans lost so far.
    fn next(&mut self, taken: bool, lost: u64, now: Instant) -> Option<News> {
        let more = lost > self.lost;
        match self.losing {
            Some(at) if more && now.duration_since(at) < WARN_EVERY => None,
            _ if more => {
                (self.lost, self.losing) = (lost, Some(now));
                Some(News::Losing)
            }
            Some(_) if taken => {
                self.losing = None;
                Some(News::TakenAgain)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_at_once_then_once_a_minute_and_their_end_once() {
        let (mut told, start) = (Told::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(told.next(true, 0, at(0)), None);
        assert_eq!(told.next(false, 5, at(1)), Some(News::Losing));
        assert_eq!(told.next(false, 9, at(30)), None);
        assert_eq!(told.next(false, 12, at(61)), Some(News::Losing));
        assert_eq!(told.next(true, 12, at(62)), Some(News::TakenAgain));
        assert_eq!(told.next(true, 12, at(63)), None);
        assert_eq!(told.next(true, 13, at(64)), Some(News::Losing), "the queue was full");
    }
}
