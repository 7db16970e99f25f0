//! Waiting for what becomes of an order. One reader per process follows the log and wakes whoever
//! waits, whichever replica of whichever service decided. Never asks the server per waiting caller,
//! and never misses an outcome: a caller registers before it appends what will be decided.

use chassis::events::Orders;
use chassis::kinds::ORDER;
use domain::{Change, Order, Short};
use event_store::{EventStore, Id, ReadError, ReadErrorKind, Tail};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

const PAUSE: Duration = Duration::from_millis(100);

/// What became of a revision of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds its stock.
    Confirmed,
    /// This was missing.
    Rejected(Vec<Short>),
    /// It was deleted before, or instead of, a decision.
    Deleted,
}

/// The outcome that an event tells, if any. `None` for the revision: of all.
fn outcome(order: Order) -> Option<(Option<u32>, Outcome)> {
    match order.change {
        Change::Confirmed => Some((Some(order.revision), Outcome::Confirmed)),
        Change::Rejected => Some((Some(order.revision), Outcome::Rejected(order.short))),
        Change::Deleted => Some((None, Outcome::Deleted)),
        Change::Placed | Change::Changed | Change::Billed | Change::Unbilled => None,
    }
}

type Callers = HashMap<String, Vec<(u32, oneshot::Sender<Outcome>)>>;

/// Who waits for which order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outcomes {
    callers: Arc<Mutex<Callers>>,
    following: watch::Sender<bool>,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { callers: Arc::default(), following: watch::Sender::new(false) }
    }
}

impl Outcomes {
    /// Waits until the log is followed: from then on nothing is missed.
    pub async fn following(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.following.subscribe().wait_for(|following| *following).await;
    }

    /// Registers a caller. To be done before what is waited for can happen.
    #[must_use]
    pub fn of(&self, order_id: &str, revision: u32) -> Waiting {
        let (sender, receiver) = oneshot::channel();
        self.lock().entry(order_id.to_owned()).or_default().push((revision, sender));
        Waiting { outcomes: self.clone(), order_id: order_id.to_owned(), receiver }
    }

    /// Follows the log until cancelled.
    pub async fn follow(self, store: EventStore, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.follow_for_ever(store)).await;
    }

    async fn follow_for_ever(self, store: EventStore) {
        let mut tail: Option<Tail> = None;
        loop {
            if let Err(error) = self.step(&store, &mut tail).await {
                tracing::warn!(%error, "outcomes of orders cannot be followed now");
                if matches!(error.kind(), ReadErrorKind::Trimmed { .. }) {
                    // Nobody waits for outcomes that old.
                    tail = None;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn step(&self, store: &EventStore, tail: &mut Option<Tail>) -> Result<(), ReadError> {
        let tail = match tail {
            Some(tail) => tail,
            None => tail.insert(self.begin(store, store.head().await?)),
        };
        for event in tail.next().await? {
            self.tell(&event.entity_id, || event.state::<Orders>().ok());
        }
        Ok(())
    }

    fn begin(&self, store: &EventStore, head: Id) -> Tail {
        self.following.send_replace(true);
        store.tail(vec![ORDER.stream("updated"), ORDER.stream("deleted")], head)
    }

    /// Wakes whoever waits for this order; reads the order only when somebody does.
    fn tell(&self, order_id: &str, order: impl FnOnce() -> Option<Order>) {
        let mut callers = self.lock();
        let Some(waiting) = callers.get_mut(order_id) else { return };
        let Some((of, outcome)) = order().and_then(outcome) else { return };
        let is_told = |revision: u32| of.is_none_or(|of| of == revision);
        for (_, caller) in waiting.extract_if(.., |(revision, _)| is_told(*revision)) {
            // A caller that has gone does not want to know.
            let _ = caller.send(outcome.clone());
        }
        if waiting.is_empty() {
            callers.remove(order_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Callers> {
        // Nothing in here panics half-way through a change of the map.
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered caller.
#[derive(Debug)]
pub struct Waiting {
    outcomes: Outcomes,
    order_id: String,
    receiver: oneshot::Receiver<Outcome>,
}

impl Waiting {
    /// The outcome, or `None` when there is none by then.
    pub async fn until(mut self, deadline: Instant) -> Option<Outcome> {
        timeout_at(deadline, &mut self.receiver).await.ok()?.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.receiver.close();
        let mut callers = self.outcomes.lock();
        if let Some(waiting) = callers.get_mut(&self.order_id) {
            waiting.retain(|(_, caller)| !caller.is_closed());
            if waiting.is_empty() {
                callers.remove(&self.order_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Content, Party};

    fn order(revision: u32, change: Change) -> Order {
        let customer = Party { name: "Ann".into(), email: "ann@example.com".into() };
        let content = Content { product_ids: vec![], customer_id: "c".into(), customer, items: vec![] };
        let short = vec![Short { product_id: "p".into(), wanted: 2, available: 1 }];
        Order { revision, change, short, ..Order::place("o".into(), content, None) }
    }

    async fn told(waiting: Waiting) -> Option<Outcome> {
        waiting.until(Instant::now()).await
    }

    #[tokio::test]
    async fn each_caller_is_told_of_its_own_revision_and_all_of_a_deletion() {
        let outcomes = Outcomes::default();
        let [first, second, third] = [1, 2, 3].map(|revision| outcomes.of("o", revision));
        outcomes.tell("o", || Some(order(1, Change::Confirmed)));
        outcomes.tell("o", || Some(order(2, Change::Rejected)));
        outcomes.tell("other", || Some(order(3, Change::Confirmed)));
        for change in [Change::Placed, Change::Changed, Change::Billed, Change::Unbilled] {
            outcomes.tell("o", || Some(order(3, change)));
        }
        assert_eq!(outcomes.lock()["o"].len(), 1);
        outcomes.tell("o", || Some(order(3, Change::Deleted)));
        assert_eq!(told(first).await, Some(Outcome::Confirmed));
        assert_eq!(told(second).await, Some(Outcome::Rejected(order(2, Change::Rejected).short)));
        assert_eq!(told(third).await, Some(Outcome::Deleted));
        assert!(outcomes.lock().is_empty());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_is_forgotten_and_disturbs_nobody() {
        let outcomes = Outcomes::default();
        let (patient, other) = (outcomes.of("o", 1), outcomes.of("o", 1));
        assert_eq!(told(other).await, None);
        assert_eq!(outcomes.lock()["o"].len(), 1);
        outcomes.tell("o", || Some(order(1, Change::Confirmed)));
        assert_eq!(told(patient).await, Some(Outcome::Confirmed));
        drop(outcomes.of("o", 2));
        assert!(outcomes.lock().is_empty());
    }
}
