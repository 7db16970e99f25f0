//! Runs handlers. Several events are asked about one after another by one task: most handlers answer
//! at once, and a task of their own would cost more than they do. One that waits for something is
//! carried on in a task of its own. Never talks to Redis.

use super::item::{Item, Place};
use super::{Handler, Outcome};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// After so long in handlers the rest goes to another task, which may run on another core.
const BUDGET: Duration = Duration::from_millis(1);

/// An event in hand.
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) item: Arc<Item>,
    pub(super) began: Instant,
}

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What became of an event that was handed out.
pub(super) enum Handled {
    /// With how long the handler took.
    Ended(Job, Outcome, Duration),
    /// The handler waits for something.
    Waiting(Job, Running),
    /// It was not begun: there is no free hand.
    Unbegun(Place),
}

/// Asks about events in turn, until `hands` of them are in the air.
pub(super) async fn several(
    handler: Arc<impl Handler>,
    jobs: Vec<(Place, Arc<Item>)>,
    hands: usize,
) -> Vec<Handled> {
    let begin = Instant::now();
    let mut now = begin;
    let mut free = hands;
    let mut asked = Vec::with_capacity(jobs.len());
    for (place, item) in jobs {
        if free == 0 || (now - begin > BUDGET && !asked.is_empty()) {
            asked.push(Handled::Unbegun(place));
            continue;
        }
        let mut running = run(handler.clone(), item.clone());
        let job = Job { place, item, began: now };
        let polled = poll_fn(|cx| Poll::Ready(guarded(running.as_mut(), cx))).await;
        // The end of one is the beginning of the next.
        now = Instant::now();
        match polled {
            Poll::Ready(outcome) => {
                // Outputs are on their way until they are in the log.
                free -= usize::from(matches!(&outcome, Outcome::Done(outputs) if !outputs.is_empty()));
                let took = now - job.began;
                asked.push(Handled::Ended(job, outcome, took));
            }
            Poll::Pending => {
                free -= 1;
                asked.push(Handled::Waiting(job, running));
            }
        }
    }
    asked
}

/// Carries on with one.
pub(super) async fn carry_on(job: Job, mut running: Running) -> Vec<Handled> {
    let outcome = poll_fn(|cx| guarded(running.as_mut(), cx)).await;
    let took = job.began.elapsed();
    vec![Handled::Ended(job, outcome, took)]
}

fn run(handler: Arc<impl Handler>, item: Arc<Item>) -> Running {
    let event = &item.event;
    let span = tracing::debug_span!("handle", stream = %event.stream, id = %event.id, entity = event.entity_id, correlation = event.correlation_id, traceparent = event.traceparent);
    Box::pin(async move { handler.handle(&item.event).await }.instrument(span))
}

/// A panic in a handler is an attempt that failed, not the end of the consumer. The future is not
/// polled again after it, so what it left half done is seen by nobody.
fn guarded(
    running: Pin<&mut (dyn Future<Output = Outcome> + Send)>,
    cx: &mut std::task::Context<'_>,
) -> Poll<Outcome> {
    catch_unwind(AssertUnwindSafe(|| running.poll(cx))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Poll::Ready(Outcome::Retry(format!("the handler panicked: {text}")))
    })
}
