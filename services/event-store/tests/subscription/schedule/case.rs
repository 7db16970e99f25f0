//! A random case: events with what their handlers make of them, and what happens to the consumers. From a seed alone.

use std::time::Duration;

/// Consumers that run at the same time, at most.
pub(super) const SLOTS: usize = 4;

/// What a handler makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Done,
    /// Done, with an output.
    Output,
    /// Fails so often, then is done.
    Retry(u32),
    /// Takes so long.
    Slow(Duration),
    /// Is parked until the case is cured.
    Poison,
    /// Is in retry until the case is cured.
    Stuck,
    /// Its handler hangs until the case is cured.
    Hangs,
}

impl Behaviour {
    /// The time that one handling takes.
    pub(super) fn takes(self) -> Duration {
        match self {
            // The pauses between attempts.
            Self::Retry(times) => Duration::from_millis(50) * times,
            Self::Slow(time) => time,
            _ => Duration::ZERO,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// The number of its stream.
    pub(super) action: usize,
    pub(super) entity: usize,
    /// Shares the ordering key of this entity, too.
    pub(super) also: Option<usize>,
    pub(super) behaviour: Behaviour,
}

impl Planned {
    pub(super) fn keys(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.entity).chain(self.also.filter(|also| *also != self.entity))
    }
}

/// How a consumer is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) concurrency: usize,
    pub(super) claim_after: Duration,
    pub(super) shutdown: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Appends the next events.
    Append(usize),
    /// Starts a consumer where none runs, under a new name or under that of the one that ran there last.
    Start {
        slot: usize,
        same_name: bool,
        settings: Settings,
    },
    /// The process dies: nothing is handed back.
    Kill(usize),
    /// The process is asked to end.
    Leave(usize),
    /// Its connections pass nothing on.
    Stall(usize),
    /// Whatever its handlers do hangs.
    Hang(usize),
    /// Connections and handlers of this consumer go on.
    Resume(usize),
    Rest(Duration),
    /// What must be finished is finished before anything else happens.
    Settle,
}

/// How large a case may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) events: (usize, usize),
    pub(super) entities: (usize, usize),
    pub(super) rounds: (usize, usize),
    /// The claim times in milliseconds; some consumers have a multiple. A heartbeat costs time for each entry that is
    /// held, so that many entries need a longer one.
    pub(super) claim_after: (usize, usize),
    /// Events of one entity, about; one case of eight ignores it. They are handled one after another, which takes long.
    pub(super) of_one: usize,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) actions: usize,
    pub(super) entities: usize,
    pub(super) events: Vec<Planned>,
    pub(super) steps: Vec<Step>,
    /// Nobody dies, stalls or hangs, and nobody claims from the living: consumers only come and leave.
    pub(super) graceful: bool,
    /// The longest of all consumers.
    pub(super) claim_after: Duration,
    /// Every handler takes so long: consumers die and leave in the middle of a backlog.
    pub(super) pace: Duration,
    /// How long all handlers together take that do not hang.
    pub(super) handlers_take: Duration,
}

/// Numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    /// Both ends included; small numbers as often as large ones.
    fn within(&mut self, (least, most): (usize, usize)) -> usize {
        let span = most - least;
        let bound = if self.one_in(2) { span } else { span.min(1 << self.below(usize::BITS as usize - 1)) };
        least + self.below(bound + 1)
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn millis(&mut self, bounds: (usize, usize)) -> Duration {
        Duration::from_millis(self.within(bounds) as u64)
    }
}

impl Case {
    pub(super) fn new(seed: u64, size: Size) -> Self {
        let mut random = Random(seed);
        let (actions, count) = (1 + random.below(4), random.within(size.events));
        let of_one = if random.one_in(8) { count } else { size.of_one.min(count) };
        let entities = random.within(size.entities).max(count.div_ceil(of_one.max(1))).max(1);
        let graceful = random.one_in(3);
        let has_pace = count <= 4_000 && random.one_in(2);
        let pace = if has_pace { Duration::from_millis(1) } else { Duration::ZERO };
        let mut events: Vec<Planned> = planned(&mut random, actions, entities, count, of_one);
        if !graceful {
            hold_up(&mut random, &mut events);
        }
        let (steps, claim_after) = steps(&mut random, size, count, graceful);
        let handlers_take = events.iter().map(|event| event.behaviour.takes() + pace).sum();
        Self { actions, entities, events, steps, graceful, claim_after, pace, handlers_take }
    }
}

fn planned(
    random: &mut Random,
    actions: usize,
    entities: usize,
    count: usize,
    of_one: usize,
) -> Vec<Planned> {
    // A part of all events may be of one entity.
    let hot = random.one_of(&[0, 2, 4, 10]);
    let hot = if hot == 0 { 0 } else { hot.max(count.div_ceil(of_one.max(1))) };
    let shares_keys = random.one_in(2);
    let poison = random.one_in(2);
    // What takes time is rare enough that all of it takes less than two seconds.
    let rare = count.max(200) / 20;
    let event = |_| {
        let entity = if hot > 0 && random.one_in(hot) { 0 } else { random.below(entities) };
        let also = (shares_keys && random.one_in(8)).then(|| random.below(entities));
        let behaviour = match random.below(rare) {
            0 => Behaviour::Retry(1 + u32::from(random.one_in(2))),
            1 => Behaviour::Slow(random.millis((1, 80))),
            // Not where its followers would be most of all events: each letter is a call of its own.
            2 if poison && entities > count / 100 && (hot == 0 || entity > 0) && !shares_keys => {
                Behaviour::Poison
            }
            n if n % 4 == 3 => Behaviour::Output,
            _ => Behaviour::Done,
        };
        Planned { action: random.below(actions), entity, also, behaviour }
    };
    (0..count).map(event).collect()
}

/// An event near the beginning holds up its entity until the end, perhaps one with many events; perhaps two.
fn hold_up(random: &mut Random, events: &mut [Planned]) {
    for behaviour in [Behaviour::Stuck, Behaviour::Hangs] {
        if random.one_in(2) && !events.is_empty() {
            let early = events.len().min(20);
            events[random.below(early)].behaviour = behaviour;
        }
    }
}

fn steps(random: &mut Random, size: Size, count: usize, graceful: bool) -> (Vec<Step>, Duration) {
    let base = if graceful { Duration::from_mins(1) } else { random.millis(size.claim_after) };
    let mut longest = base;
    let mut start = |random: &mut Random| {
        let claim_after = if graceful { base } else { base * random.one_of(&[1, 1, 2, 4]) };
        longest = longest.max(claim_after);
        let settings = Settings {
            concurrency: random.one_of(&[1, 2, 16, 64]),
            claim_after,
            shutdown: random.millis((300, 600)),
        };
        Step::Start { slot: random.below(SLOTS), same_name: random.one_in(4), settings }
    };
    let (rounds, mut left) = (random.within(size.rounds).max(1), count);
    let mut steps = Vec::new();
    for round in 0..rounds {
        let part = if round + 1 == rounds { left } else { random.below(left + 1) };
        left -= part;
        // Consumers are there before the events or find a backlog.
        if random.one_in(3) {
            steps.push(start(random));
        }
        steps.push(Step::Append(part));
        steps.push(start(random));
        steps.push(start(random));
        for _ in 0..=random.below(8) {
            let slot = random.below(SLOTS);
            let step = match random.below(10) {
                0..3 => start(random),
                _ if graceful => Step::Leave(slot),
                3..5 => Step::Kill(slot),
                5 => Step::Leave(slot),
                6 => Step::Stall(slot),
                7 => Step::Hang(slot),
                8 => Step::Resume(slot),
                _ => Step::Rest(base * 2),
            };
            steps.push(step);
            if matches!(step, Step::Stall(_)) && random.one_in(2) {
                // Some consumers have claimed its entries when it comes back, in the middle of its work.
                steps.push(Step::Rest(base * 3 / 2));
                steps.push(Step::Resume(slot));
            }
            steps.push(Step::Rest(random.millis((0, 300))));
        }
        steps.push(Step::Settle);
    }
    (steps, longest)
}
