//! Progress under random schedules: consumers start, die, leave, stall, hang and come back under new names, in front of
//! backlogs on few or many entities whose events fail, are parked, take long, hang or stay in retry.
//!
//! # What is asserted
//!
//! After a number of random steps the schedule settles: from then on nothing happens to any consumer, and what hangs or
//! stalls goes on doing so. At least one consumer can work: it is neither stalled nor hung and has more handlers
//! than there are events that hang. Then every event that was appended is finished within
//! `2 × claim_after + 10 s`, but for those that wait on their own keys for a handler that hangs, a retry that lasts or a
//! dead letter. `claim_after` is the longest of all consumers; where consumers only come and leave, nothing is to be claimed
//! from the living, and the bound is 10 s. To it comes the time that the handlers take, twice, since a handling may be
//! repeated; and [`STEP`] for each unfinished event that is before it in the order of its keys, which are handled one after
//! another, perhaps by consumers in turn that ask each other's progress. Something is finished within the bound in any case.
//!
//! The bound is measured by [`machine::Machine`]: the time in which the test or its servers waited for a core does not
//! count. So it is as sharp on a busy machine as on an idle one.
//!
//! Whenever a handler begins: every earlier event of each of its keys is done, no later one has begun, and no other consumer
//! that could keep its entries has the event in hand. In the end: the dead letters are the poison and what is behind it, after a replay
//! everything is finished, and each output is there once, those of an entity in order.
//!
//! # A failure
//!
//! It names its schedule: `SCHEDULE=large:42` runs that one alone, again with other timing. `EVENTSTORE_TEST_MINUTES=60`
//! lets the long form run for an hour.

mod case;
mod machine;
mod members;
mod model;

use super::*;
use case::{Behaviour, Case, SLOTS, Settings, Size, Step};
use members::{LONGEST_PAUSE, Members, Shared, World};
use model::{Duty, Model, entity};
use std::collections::BTreeSet;
use std::time::Instant;

const ACTIONS: [&str; 4] = ["a", "b", "c", "d"];
/// The promise, beside twice the claim time.
const BOUND: Duration = Duration::from_secs(10);

/// One event after another of a key, where consumers take turns.
const STEP: Duration = Duration::from_millis(20);

const SMALL: Size =
    Size { events: (0, 400), entities: (1, 60), rounds: (1, 2), claim_after: (200, 600), of_one: 400 };
/// More than two consumers' shares of a stream.
const MEDIUM: Size = Size {
    events: (2_600, 4_000),
    entities: (1, 1_000),
    rounds: (1, 1),
    claim_after: (400, 800),
    of_one: 1_300,
};
const LARGE: Size = Size {
    events: (0, 20_000),
    entities: (1, 1_000),
    rounds: (1, 5),
    claim_after: (1_000, 2_000),
    of_one: 2_500,
};
const SIZES: [(&str, Size); 3] = [("small", SMALL), ("medium", MEDIUM), ("large", LARGE)];

/// Schedules that have shown a defect; the long form begins with them.
const KNOWN: [(&str, Size, u64); 4] = [
    ("large", LARGE, 584_321_507),
    ("large", LARGE, 229_285_172),
    ("small", SMALL, 949_526_795),
    ("small", SMALL, 253_009_914),
];

struct Run {
    server: Server,
    world: Shared,
    members: Members,
    case: Case,
}

impl Run {
    async fn new(case: Case) -> Self {
        let server = server().await;
        let world = World::new(Model::new(case.events.clone()), case.pace);
        let members = Members::new(&server, &world, &ACTIONS[..case.actions]).await;
        Self { server, world, members, case }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Append(count) => self.append(count).await,
            Step::Start { slot, same_name, settings } => {
                self.members.start(&self.server, slot, same_name, settings).await;
            }
            Step::Kill(slot) => self.members.kill(slot),
            Step::Leave(slot) => self.members.leave(slot).await,
            Step::Stall(slot) => self.members.stall(slot),
            Step::Hang(slot) => self.members.hang(slot),
            Step::Resume(slot) => self.members.resume(slot),
            Step::Rest(time) => tokio::time::sleep(time).await,
            Step::Settle => self.settle().await,
        }
    }

    async fn append(&mut self, count: usize) {
        for first in (0..count).step_by(500) {
            let event = || {
                let (number, event) = self.world.model().next()?;
                let id = entity(event.entity);
                let body = json!({ "id": id, "owner": "nobody", "n": number });
                let put = NewEvent::put(ACCOUNT, ACTIONS[event.action], &*id, &body);
                Some(match event.also {
                    Some(also) => put.ordered_with(ACCOUNT.ordering_key(&entity(also))),
                    None => put,
                })
            };
            let batch: Vec<NewEvent> = std::iter::from_fn(event).take(500.min(count - first)).collect();
            let appended = self.server.store.append(batch).await.unwrap();
            self.world.model().appended(appended.iter().map(|appended| appended.id));
        }
    }

    /// Within which time all that must be finished is, when nothing happens to any consumer.
    fn bound(&self) -> Duration {
        let claims = if self.case.graceful { Duration::ZERO } else { self.case.claim_after * 2 };
        claims + BOUND + self.case.handlers_take * 2
    }

    async fn settle(&mut self) {
        let hanging = self.case.events.iter().filter(|event| event.behaviour == Behaviour::Hangs).count();
        if !self.members.one_can_work(hanging) {
            let free = (0..SLOTS).find(|slot| self.members.slots[*slot].member.is_none()).unwrap_or_default();
            self.members.kill(free);
            let claim_after = self.case.claim_after;
            let settings = Settings { concurrency: 16, claim_after, shutdown: Duration::from_millis(300) };
            self.members.start(&self.server, free, false, settings).await;
        }
        let is_settled = |duty: Duty, unfinished: bool| duty != Duty::Finish || !unfinished;
        self.wait("what must be finished", self.bound(), is_settled).await;
        self.no_violations();
    }

    fn no_violations(&self) {
        let violations = &self.world.model().violations;
        assert!(
            violations.is_empty(),
            "{} violations, such as {:#?}",
            violations.len(),
            &violations[..violations.len().min(5)]
        );
    }

    /// Waits until each event is as it should be, by what is owed to it and whether the group has yet to finish it. Fails
    /// when one is overdue, or when nothing has changed for the time of the bound.
    async fn wait(&self, what: &str, bound: Duration, is_right: impl Fn(Duty, bool) -> bool) {
        let (machine, wall) = (&self.world.machine, Instant::now());
        let began = machine.now();
        let (hung, ranks) = (self.members.hung(), self.world.model().ranks());
        let (mut fewest, mut changed) = (usize::MAX, machine.now());
        loop {
            let looked = Instant::now();
            let mut wrong: Vec<usize> = {
                let model = self.world.model();
                let duties = model.duties(&hung).into_iter().enumerate();
                duties.filter(|(n, duty)| !is_right(*duty, !model.is_done(*n))).map(|(n, _)| n).collect()
            };
            let handled = wrong.is_empty();
            if handled {
                // So is the group when the server says so.
                let unfinished = self.unfinished().await;
                let duties = self.world.model().duties(&hung).into_iter().enumerate();
                wrong = duties
                    .filter(|(n, duty)| !is_right(*duty, unfinished.contains(n)))
                    .map(|(n, _)| n)
                    .collect();
            }
            let took = machine.since(began);
            if wrong.is_empty() {
                println!("  {what}: {took:.1?} ({:.1?} by the clock) of {bound:.1?}", wall.elapsed());
                return;
            }
            if wrong.len() < fewest {
                (fewest, changed) = (wrong.len(), machine.now());
            }
            let is_overdue = |number: &usize| took > bound + STEP * ranks.get(*number).copied().unwrap_or(1);
            if machine.since(changed) > bound || wrong.iter().any(is_overdue) {
                wrong.sort_by_key(|number| !is_overdue(number));
                let wall = wall.elapsed();
                self.fail(&format!("{what}, after {took:.1?} ({wall:.1?}), handled: {handled}"), &wrong)
                    .await;
            }
            tokio::time::sleep((looked.elapsed() * 4).max(Duration::from_millis(10))).await;
        }
    }

    /// The numbers of the events that the group has yet to finish: not delivered, or pending.
    async fn unfinished(&self) -> BTreeSet<usize> {
        let mut unfinished = BTreeSet::new();
        for (number, action) in ACTIONS[..self.case.actions].iter().enumerate() {
            let (pending, delivered) = self.pending_of(action).await;
            let pending: BTreeSet<Id> = pending.into_iter().map(|(id, ..)| id).collect();
            let model = self.world.model();
            let of_stream = model.ids().iter().enumerate().filter(|(n, _)| model.event(*n).action == number);
            unfinished
                .extend(of_stream.filter(|(_, id)| **id > delivered || pending.contains(id)).map(|(n, _)| n));
        }
        unfinished
    }

    /// The pending entries of a stream with their consumers and idle times (ms), and the last id that was delivered.
    async fn pending_of(&self, action: &str) -> (Vec<(Id, String, u64)>, Id) {
        let stream = format!("events:account_{action}");
        let groups: redis::RedisResult<Vec<HashMap<String, redis::Value>>> =
            self.server.try_command(&["XINFO", "GROUPS", &stream]).await;
        let delivered = groups.ok().and_then(|groups| {
            let id: String = redis::from_redis_value(groups.first()?["last-delivered-id"].clone()).unwrap();
            Some(id.parse::<Id>().unwrap())
        });
        let Some(delivered) = delivered else { return (Vec::new(), Id::ZERO) };
        let pending: Vec<(String, String, u64, u64)> =
            self.server.command(&["XPENDING", &stream, "group", "-", "+", "1000000"]).await;
        let pending =
            pending.into_iter().map(|(id, consumer, idle, _)| (id.parse().unwrap(), consumer, idle));
        (pending.collect(), delivered)
    }

    async fn fail(&self, what: &str, wrong: &[usize]) -> ! {
        let mut pending = HashMap::new();
        for action in &ACTIONS[..self.case.actions] {
            let of_stream = self.pending_of(action).await.0;
            pending.extend(of_stream.into_iter().map(|(id, consumer, idle)| (id, (consumer, idle))));
        }
        let model = self.world.model();
        let mut lines = vec![format!("not yet so: {what}: {} events", wrong.len())];
        for number in wrong.iter().take(5) {
            let (event, id, done) = (model.event(*number), model.ids()[*number], model.is_done(*number));
            lines.push(format!("{number} ({id}) {event:?}, done {done}: {:?}", pending.get(&id)));
        }
        for member in self.members.all() {
            let (number, name, settings) = (member.incarnation, &member.name, member.settings);
            let (stalled, hung) = (member.is_stalled, member.is_hung);
            lines.push(format!("consumer {number} {name}, stalled {stalled}, hung {hung}, {settings:?}"));
        }
        // Handlers go on until the test has ended.
        drop(model);
        panic!("{}", lines.join("\n"));
    }

    /// The numbers of the events that are dead letters.
    async fn letters(&self) -> BTreeSet<usize> {
        let (dead, mut letters) = (self.server.store.dead_letters("group", "account"), BTreeSet::new());
        let mut after = Id::ZERO;
        loop {
            let page = dead.list(after, 1_000).await.unwrap();
            let Some(last) = page.last() else { return letters };
            after = last.letter;
            let model = self.world.model();
            letters.extend(page.iter().map(|letter| model.ids().binary_search(&letter.id).unwrap()));
        }
    }

    /// Nothing hangs, stalls or is stuck any more; then nothing is poison any more.
    async fn end(mut self) {
        for slot in 0..SLOTS {
            self.members.resume(slot);
        }
        self.world.model().released = true;
        self.world.released.send_replace(true);
        let duties = self.world.model().duties(&[]);
        let letters: BTreeSet<usize> = (0..duties.len()).filter(|n| duties[*n] == Duty::Letter).collect();
        // Each is a call of its own, and claimed in batches when it goes back.
        let for_letters = Duration::from_millis(10) * u32::try_from(letters.len()).unwrap();
        let bound = self.bound() + for_letters + LONGEST_PAUSE;
        self.wait("all but the letters", bound, |duty, unfinished| duty == Duty::Letter || !unfinished).await;
        let parked = || async { self.letters().await == letters && self.unfinished().await.is_empty() };
        patiently("the dead letters are the poison and what is behind it", parked).await;

        self.world.model().cured = true;
        let dead = self.server.store.dead_letters("group", "account");
        patiently("all that was parked goes back", || async {
            let left = dead.count().await.unwrap();
            if left > 0 {
                dead.replay(&Select::All).await.unwrap();
            }
            left == 0
        })
        .await;
        self.wait("all", bound, |_, unfinished| !unfinished).await;
        self.no_violations();
        self.members.stop().await;

        let mut outputs: HashMap<String, Vec<u64>> = HashMap::new();
        let note = |event: Event| {
            outputs.entry(event.entity_id.clone()).or_default().push(event.entity["n"].as_u64().unwrap());
        };
        self.server.store.replay(&[NOTE.stream("created")], note).await.unwrap();
        let expected = self.world.model().outputs();
        for (entity, numbers) in &expected {
            assert_eq!(outputs.get(entity), Some(numbers), "the outputs of {entity}");
        }
        assert_eq!(outputs.len(), expected.len());
    }
}

async fn run_schedule(name: &str, size: Size, seed: u64) {
    let case = Case::new(seed, size);
    let (events, entities, steps) = (case.events.len(), case.entities, case.steps.clone());
    println!(
        "SCHEDULE={name}:{seed} {events} events on {entities} entities in {} streams, graceful {}, {:?}, pace {:?}: {steps:?}",
        case.actions, case.graceful, case.claim_after, case.pace
    );
    let mut run = Run::new(case).await;
    for step in steps {
        run.step(step).await;
    }
    run.end().await;
}

/// The schedule that was asked for.
fn wanted() -> Option<(&'static str, Size, u64)> {
    let wanted = std::env::var("SCHEDULE").ok()?;
    let (name, seed) = wanted.split_once(':').expect("SCHEDULE is the name of a size, a colon and a seed");
    let (name, size) = SIZES.into_iter().find(|(known, _)| *known == name).expect("small, medium or large");
    Some((name, size, seed.parse().expect("a seed is a number")))
}

fn any_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_makes_progress_under_random_schedules() {
    if let Some((name, size, seed)) = wanted() {
        return run_schedule(name, size, seed).await;
    }
    let seed = any_seed();
    run_schedule("medium", MEDIUM, seed).await;
    // Their consumers wait most of the time.
    let small = (1..=3).map(|n| tokio::spawn(run_schedule("small", SMALL, seed + n)));
    for case in small.collect::<Vec<_>>() {
        case.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "full: two minutes of random schedules, or EVENTSTORE_TEST_MINUTES"]
async fn a_group_makes_progress_under_many_random_schedules() {
    let minutes = std::env::var("EVENTSTORE_TEST_MINUTES").map_or(2, |text| text.parse().expect("minutes"));
    let (until, mut seed) = (Instant::now() + Duration::from_mins(minutes), any_seed());
    for (name, size, seed) in KNOWN {
        run_schedule(name, size, seed).await;
    }
    while Instant::now() < until {
        seed += 1;
        let (name, size) = SIZES[usize::try_from(seed % 3).unwrap()];
        run_schedule(name, size, seed).await;
    }
}
