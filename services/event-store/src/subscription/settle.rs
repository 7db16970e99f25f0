//! What becomes of an event: of what its handler said, of what the server answered. Decides what is
//! next for it and changes the inbox; never waits for anything itself.

use super::claim::Claimed;
use super::driver::Driver;
use super::finish::{Finish, Settled};
use super::hand::{self, Handled};
use super::item::{Item, Place};
use super::park::{Letter, Why};
use super::ready::{Answer, Asked};
use super::upkeep::Found;
use super::{Handler, Outcome, backoff};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Between questions whether an event that another consumer holds is finished.
const WAIT_BASE: Duration = Duration::from_millis(2);
const WAIT_CAP: Duration = Duration::from_millis(50);
/// Where many events wait, the longest pause is so long for each of them: a consumer asks about two thousand a second.
const WAIT_CAP_EACH: Duration = Duration::from_micros(500);
const CONFLICT_BASE: Duration = Duration::from_millis(1);
const CONFLICT_CAP: Duration = Duration::from_millis(200);
/// So many conflicts of an event are nothing but handlers that change one entity at the same time.
const QUICK_CONFLICTS: u32 = 8;
/// From this conflict of an event on they are logged.
const CONFLICTS_LOGGED: u32 = 3;
/// After a question that the server did not answer.
const HOLD_OFF: Duration = Duration::from_millis(100);

/// An entry that is parked, with what the log says of it.
pub(super) struct Parking {
    place: Place,
    /// The entity; empty for an entry that is no event.
    entity: String,
    reason: String,
}

/// Something that took time has ended.
pub(super) enum Step {
    /// Handlers, by a task that occupied so many hands.
    Handled(Vec<Handled>, usize),
    Answered(Asked, Result<Answer, String>),
    /// Outputs of other slots are appended, or not.
    AppendedAhead(Finish, Result<(), Settled>),
    Finished(Vec<(Finish, Settled)>),
    /// Time to finish this one again, which the server refused.
    Again(Finish),
    /// The outputs, whose ids are known, are there already, or other events have those ids.
    Compared(Finish, Result<(), Settled>),
    Parked(Parking, Settled),
    Looked(Box<Found>),
    Claimed(Claimed),
}

/// The longest pause between questions about an event that another consumer holds up, where so many wait.
fn longest_wait(waiting: usize) -> Duration {
    WAIT_CAP.max(WAIT_CAP_EACH * u32::try_from(waiting).unwrap_or(u32::MAX))
}

/// What the server refuses beside the step that finishes an event: the handler is asked again.
fn as_attempt(settled: Settled) -> Settled {
    match settled {
        Settled::Refused(reason) => Settled::Failed(reason),
        other => other,
    }
}

impl<H: Handler> Driver<H> {
    pub(super) fn step(&mut self, ended: Result<Step, tokio::task::JoinError>) {
        let step = match ended {
            Ok(step) => step,
            Err(e) => {
                // Handlers' panics are caught; what is lost here is claimed back after a while.
                error!(group = self.subscription.group, error = %e, "a task of the consumer failed");
                return;
            }
        };
        match step {
            Step::Handled(handled, hands) => {
                self.hands += hands;
                self.shared = hand::worth_sharing(&handled);
                for one in handled {
                    self.handled(one);
                }
            }
            Step::Answered(asked, answers) => self.answered(asked, answers),
            Step::AppendedAhead(finish, appended) => {
                self.hands += 1;
                match appended {
                    Ok(()) => self.waiting.push(finish),
                    Err(settled) => self.settle(&finish.item, finish.place, as_attempt(settled)),
                }
            }
            Step::Finished(finished) => {
                self.finishing -= 1;
                for (finish, settled) in finished {
                    if let Settled::Refused(reason) = settled {
                        self.finish_again(finish, &reason);
                        continue;
                    }
                    self.hands += usize::from(!finish.outputs.is_empty());
                    if matches!(settled, Settled::Known) {
                        self.compare(finish);
                        continue;
                    }
                    if matches!(settled, Settled::Finished) {
                        self.store.count_appended(&finish.outputs);
                    }
                    self.settle(&finish.item, finish.place, settled);
                }
            }
            Step::Again(finish) | Step::Compared(finish, Ok(())) => self.waiting.push(finish),
            Step::Compared(finish, Err(settled)) => {
                self.settle(&finish.item, finish.place, as_attempt(settled));
            }
            Step::Parked(parking, settled) => self.settle_parking(&parking, &settled),
            Step::Looked(found) => self.look_after(*found),
            Step::Claimed(claimed) => self.take_over(claimed),
        }
    }

    /// What the server refuses for reasons of its own (rights, a key of another type) is finished later.
    /// The handler is not asked again: what it does to the world outside would be done again.
    fn finish_again(&mut self, finish: Finish, reason: &str) {
        let refusals = self.inbox.refused(finish.place);
        let pause = self.pause(finish.place, refusals);
        warn!(group = self.subscription.group, id = %finish.place.0, refusals, reason, "the server does not let it be finished; trying again");
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            Step::Again(finish)
        });
    }

    /// The outputs have known ids of the handler's own: they were appended before, or something else was with these ids.
    fn compare(&mut self, finish: Finish) {
        let group = self.group.clone();
        self.tasks.spawn(async move {
            let there = group.are_there(&finish.outputs).await;
            Step::Compared(Finish::without_outputs(finish.place, finish.item), there)
        });
    }

    fn pause(&self, place: Place, attempt: u32) -> Duration {
        let (base, cap) = (self.subscription.retry_base, self.subscription.retry_cap);
        backoff::pause(base, cap, attempt.saturating_sub(1), backoff::jitter(place.0, attempt))
    }

    fn handled(&mut self, handled: Handled) {
        let (job, outcome, took) = match handled {
            Handled::Unbegun(place) => return self.inbox.put_back(place),
            Handled::Waiting(job, running) => {
                self.hands -= 1;
                self.tasks.spawn(async move { Step::Handled(hand::carry_on(job, running).await, 1) });
                return;
            }
            Handled::Ended(job, outcome, took) => (job, outcome, took),
        };
        let hand::Job { place, item, .. } = job;
        self.observation.took(place.1, took);
        match outcome {
            Outcome::Done(outputs) => {
                let own_ids = outputs.iter().any(|output| output.event_id.is_some());
                let (outputs, in_one_step) = self.group.derived(&item.event, outputs);
                self.hands -= usize::from(!outputs.is_empty());
                if in_one_step {
                    self.waiting.push(Finish { place, item, outputs, own_ids });
                } else {
                    let group = self.group.clone();
                    self.tasks.spawn(async move {
                        let appended = group.append_ahead(outputs, own_ids).await;
                        Step::AppendedAhead(Finish::without_outputs(place, item), appended)
                    });
                }
            }
            Outcome::Skip(reason) => {
                debug!(id = %place.0, stream = %item.event.stream, reason, "skipped");
                self.waiting.push(Finish::without_outputs(place, item));
            }
            Outcome::Retry(reason) => self.settle(&item, place, Settled::Failed(reason)),
            Outcome::Park(reason) => self.settle(&item, place, Settled::Hopeless(reason)),
        }
    }

    fn answered(&mut self, asked: Asked, answers: Result<Answer, String>) {
        self.asking = false;
        let answers = match answers {
            Ok(Answer::Each(answers)) => answers,
            other => {
                match other {
                    Ok(Answer::Streams(list)) => self.learn_streams(&list),
                    Err(e) => {
                        debug!(group = self.subscription.group, error = e, "cannot ask what may be handled");
                        self.hold_off = Some(Instant::now() + HOLD_OFF);
                    }
                    Ok(Answer::Each(_)) => {}
                }
                for (place, _) in asked {
                    self.inbox.put_back(place);
                }
                return;
            }
        };
        let mut go = Vec::new();
        for ((place, item), answer) in asked.into_iter().zip(answers) {
            if answer != "wait" {
                self.inbox.waits_no_longer(place);
            }
            match answer.as_str() {
                "go" => {
                    item.waits_for().for_each(|(at, id)| self.known.learn(at, id));
                    go.push((place, item));
                }
                "gap" => {
                    info!(group = self.subscription.group, id = %place.0, stream = %item.event.stream, "an earlier event was trimmed, was taken out of the group by hand, or lies before its beginning; going on without it");
                    go.push((place, item));
                }
                "already" => self.waiting.push(Finish::without_outputs(place, item)),
                "behind" => self.start_park(place, Some(item), Why::Behind),
                "parked" => self.start_park(place, Some(item), Why::Letter),
                "fenced" => self.settle(&item, place, Settled::Fenced),
                _ => {
                    let waits = self.inbox.waited(place);
                    let cap = longest_wait(self.inbox.waiting());
                    let pause = backoff::pause(WAIT_BASE, cap, waits, backoff::jitter(place.0, waits));
                    self.inbox.wait_until(place, Instant::now() + pause);
                }
            }
        }
        if self.halted || self.is_closed(Instant::now()) {
            for (place, _) in go {
                self.inbox.put_back(place);
            }
        } else {
            self.hand_out(go);
        }
    }

    pub(super) fn start_park(&mut self, place: Place, item: Option<Arc<Item>>, why: Why) {
        self.inbox.set_aside(place);
        let (failed, since) = self.inbox.failures(place);
        // What queues behind another was never tried itself.
        let letter = Letter {
            place,
            item,
            why,
            attempts: failed,
            failing_for: since.map_or(Duration::ZERO, |t| t.elapsed()),
        };
        let entity = letter.item.as_ref().map(|item| item.event.entity_id.clone());
        let parking = Parking { place, entity: entity.unwrap_or_default(), reason: letter.why.reason() };
        let group = self.group.clone();
        self.tasks.spawn(async move { Step::Parked(parking, group.park(letter).await) });
    }

    fn settle(&mut self, item: &Arc<Item>, place: Place, settled: Settled) {
        let now = Instant::now();
        match settled {
            Settled::Finished => {
                self.known.finished(item);
                self.inbox.remove(place);
                self.observation.count_handled(place.1);
            }
            Settled::Hopeless(reason) => {
                self.inbox.failed(place, now, &reason);
                self.start_park(place, Some(item.clone()), Why::Own(reason));
            }
            Settled::Conflict(reason) => {
                self.observation.count_conflicted(place.1);
                let attempt = self.inbox.failed(place, now, &reason);
                if self.fails_too_often(attempt) {
                    return self.start_park(place, Some(item.clone()), Why::Own(reason));
                }
                let pause = self.pause_after_conflict(place, attempt);
                if attempt >= CONFLICTS_LOGGED {
                    self.warn_of_attempt(place, attempt, pause, &reason);
                }
                self.inbox.wait_until(place, now + pause);
            }
            Settled::Failed(reason) => {
                let attempt = self.inbox.failed(place, now, &reason);
                if self.fails_too_often(attempt) {
                    return self.start_park(place, Some(item.clone()), Why::Own(reason));
                }
                let pause = self.pause(place, attempt);
                self.warn_of_attempt(place, attempt, pause, &reason);
                self.inbox.wait_until(place, now + pause);
                self.observation.count_retried(place.1);
            }
            other => self.settle_elsewhere(place, &other),
        }
    }

    fn fails_too_often(&self, attempt: u32) -> bool {
        self.subscription.park_after.is_some_and(|most| attempt >= most)
    }

    /// Short at first: whoever was faster has finished. One that conflicts again and again waits like any failure.
    fn pause_after_conflict(&self, place: Place, attempt: u32) -> Duration {
        if attempt <= QUICK_CONFLICTS {
            backoff::pause(CONFLICT_BASE, CONFLICT_CAP, attempt, backoff::jitter(place.0, attempt))
        } else {
            self.pause(place, attempt - QUICK_CONFLICTS)
        }
    }

    fn warn_of_attempt(&self, place: Place, attempt: u32, pause: Duration, reason: &str) {
        let (group, stream) = (&self.subscription.group, &self.subscription.streams[place.1]);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(0);
        warn!(group, %stream, id = %place.0, attempt, pause_ms, reason, "to be tried again");
    }

    fn settle_parking(&mut self, parking: &Parking, settled: &Settled) {
        let Parking { place, entity, reason } = parking;
        if matches!(settled, Settled::Parked) {
            let (group, stream) = (&self.subscription.group, &self.subscription.streams[place.1]);
            warn!(group, %stream, id = %place.0, entity, reason, "parked");
            self.inbox.remove(*place);
            return self.observation.count_parked(place.1);
        }
        self.settle_elsewhere(*place, settled);
    }

    /// How an entry ended that was not handled by this consumer.
    fn settle_elsewhere(&mut self, place: Place, settled: &Settled) {
        let stream = &self.subscription.streams[place.1];
        match settled {
            Settled::Fenced => {
                info!(group = self.subscription.group, %stream, id = %place.0, "another consumer has taken this entry over");
                self.inbox.remove(place);
            }
            Settled::Free => self.inbox.put_back(place),
            // Already finished: another consumer was faster.
            _ => self.inbox.remove(place),
        }
    }
}
