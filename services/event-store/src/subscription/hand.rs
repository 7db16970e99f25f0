//! Runs handlers. Several events are asked about one after another by one task: most handlers answer
//! at once, and a task of their own would cost more than they do. One that waits for something is
//! carried on in a task of its own. Never talks to Redis.

use super::item::{Item, Place};
use super::states::{ReadState, State};
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
/// Handlers that took so long together are better shared by several tasks, which may run on several cores.
const WORTH_SHARING: Duration = Duration::from_micros(200);

/// Why an event is parked whose state cannot be read again.
const GONE: &str = "its entry was taken out of the log before it was handled";

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
    states: &impl ReadState,
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
        // The state is dropped with the handler's future; what waits to be finished is the entry as it was held.
        let whole = match states.state_of(place, &item).await {
            State::Read(whole) => whole,
            State::Gone => {
                let job = Job { place, item, began: now };
                asked.push(Handled::Ended(job, Outcome::Park(GONE.to_owned()), Duration::ZERO));
                continue;
            }
            State::Unknown => {
                // What comes after it must not overtake it where the order counts.
                free = 0;
                asked.push(Handled::Unbegun(place));
                continue;
            }
        };
        if item.is_without_state {
            now = Instant::now();
        }
        let mut running = run(handler.clone(), whole);
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

/// Did they take so long that several tasks do better?
pub(super) fn worth_sharing(handled: &[Handled]) -> bool {
    let took = |one: &Handled| match one {
        Handled::Ended(_, _, took) => *took,
        Handled::Waiting(..) | Handled::Unbegun(_) => Duration::ZERO,
    };
    handled.iter().map(took).sum::<Duration>() >= WORTH_SHARING
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::RawEntry;
    use crate::{Id, Kind};

    struct Takes(Duration);

    /// All states are held.
    struct Held;

    impl ReadState for Held {
        async fn state_of(&self, _: Place, item: &Arc<Item>) -> State {
            State::Read(item.clone())
        }
    }

    impl Handler for Takes {
        async fn handle(&self, _: &crate::Event) -> Outcome {
            std::thread::sleep(self.0);
            Outcome::Done(Vec::new())
        }
    }

    async fn handled(takes: Duration) -> Vec<Handled> {
        let fields = [
            ("event_id", "6d3ff6f4-8a0d-4ae6-9ff8-cf1d46c0e4a1"),
            ("entity", "{\"id\":\"7\"}"),
            ("version", "1"),
        ];
        let fields = fields.map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).to_vec();
        let stream = Kind::new("order").stream("updated");
        let event = RawEntry { id: Id::new(1, 0), fields }.into_event(&stream).unwrap();
        let item = Arc::new(Item::new(event, 0, &[stream]));
        let jobs = (1..=3).map(|ms| ((Id::new(ms, 0), 0), item.clone())).collect();
        several(Arc::new(Takes(takes)), &Held, jobs, 16).await
    }

    #[tokio::test]
    async fn what_takes_long_is_left_to_others_and_shared_from_then_on() {
        let handled = handled(BUDGET * 2).await;
        assert!(matches!(handled[..], [Handled::Ended(..), Handled::Unbegun(_), Handled::Unbegun(_)]));
        assert!(worth_sharing(&handled));
        assert!(!worth_sharing(&handled[1..]), "what was not begun has taken nothing");
    }
}
