//! The consumers of a case: each in a slot with a line of its own to the server, started, killed, stalled, and asked to
//! leave.

use super::super::*;
use super::case::{Behaviour, SLOTS, Settings};
use super::machine::Machine;
use super::model::{Incarnation, Model};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::watch;

/// Between two attempts. Long: an event in retry that held up others meanwhile would be noticed.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) type Shared = Arc<World>;

/// What all consumers of a case share.
pub(super) struct World {
    pub(super) model: Mutex<Model>,
    pub(super) machine: Machine,
    pace: Duration,
    /// The claim times of the incarnations that nothing has happened to: they were not killed or stalled and have not left.
    sound: Mutex<HashMap<Incarnation, Duration>>,
    /// Nothing hangs or is stuck any more.
    pub(super) released: watch::Sender<bool>,
}

impl World {
    pub(super) fn new(model: Model, pace: Duration) -> Shared {
        let (model, machine) = (Mutex::new(model), Machine::start());
        Arc::new(Self { model, machine, pace, sound: Mutex::default(), released: watch::Sender::new(false) })
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Was this consumer able to keep its entries, as far as the machine let it?
    fn kept_its_entries(&self, incarnation: Incarnation) -> bool {
        let claim_after = self.sound.lock().unwrap().get(&incarnation).copied();
        claim_after.is_some_and(|time| self.was_in_time(time))
    }

    /// Has the machine let every consumer with this claim time do in time what it must?
    fn was_in_time(&self, claim_after: Duration) -> bool {
        self.machine.waited_within(claim_after * 4) < claim_after / 4
    }
}

/// A handler at work.
struct Work {
    world: Shared,
    number: usize,
    incarnation: Incarnation,
    done: bool,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.world.model().end(self.number, self.incarnation, self.done);
    }
}

struct Handler {
    world: Shared,
    incarnation: Incarnation,
    claim_after: Duration,
    open: watch::Receiver<bool>,
}

impl event_store::Handler for Handler {
    async fn handle(&self, event: &Event) -> Outcome {
        let number = usize::try_from(event.entity["n"].as_u64().unwrap()).unwrap();
        let (attempt, behaviour) = {
            let mut model = self.world.model();
            for other in model.others(number, self.incarnation) {
                if self.world.kept_its_entries(other) {
                    let text =
                        format!("{} began event {number}, which {other} has in hand", self.incarnation);
                    model.violations.push(text);
                }
            }
            if let Some(later) =
                model.begun_after(number).filter(|_| self.world.was_in_time(self.claim_after))
            {
                let text = format!("{} began event {number} after {later} of its key", self.incarnation);
                model.violations.push(text);
            }
            (model.begin(number, self.incarnation), model.event(number).behaviour)
        };
        let mut work = Work { world: self.world.clone(), number, incarnation: self.incarnation, done: false };
        // Its sender is dropped with the consumer.
        let _ = self.open.clone().wait_for(|open| *open).await;
        if !self.world.pace.is_zero() {
            tokio::time::sleep(self.world.pace).await;
        }
        let (released, cured) = {
            let model = self.world.model();
            (model.released, model.cured)
        };
        match behaviour {
            Behaviour::Retry(times) if attempt <= times => return Outcome::Retry("not yet".to_owned()),
            Behaviour::Stuck if !released => return Outcome::Retry("not before the end".to_owned()),
            Behaviour::Poison if !cured => return Outcome::Park("poison".to_owned()),
            Behaviour::Slow(time) => tokio::time::sleep(time).await,
            Behaviour::Hangs => _ = self.world.released.subscribe().wait_for(|released| *released).await,
            _ => {}
        }
        work.done = true;
        let output = || NewEvent::put(NOTE, "created", &*event.entity_id, &json!({ "n": number }));
        Outcome::Done(if behaviour == Behaviour::Output { vec![output()] } else { Vec::new() })
    }
}

/// Connects as a program does that is started again until it can.
async fn patient_store(config: Config) -> EventStore {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match EventStore::connect(config.clone()).await {
            Ok(store) => return store,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

/// A consumer that runs.
pub(super) struct Member {
    running: Running,
    pub(super) incarnation: Incarnation,
    pub(super) name: String,
    pub(super) settings: Settings,
    open: watch::Sender<bool>,
    pub(super) is_stalled: bool,
    pub(super) is_hung: bool,
}

pub(super) struct Slot {
    /// None on a cluster, whose nodes tell a client their own addresses.
    proxy: Option<Proxy>,
    pub(super) member: Option<Member>,
    last_name: Option<String>,
}

pub(super) struct Members {
    world: Shared,
    pub(super) slots: Vec<Slot>,
    started: Incarnation,
    streams: Vec<event_store::StreamName>,
}

impl Members {
    pub(super) async fn new(server: &Server, world: &Shared, actions: &[&'static str]) -> Self {
        let mut slots = Vec::new();
        for _ in 0..SLOTS {
            let proxy = match &server.redis {
                testing::Server::Single(redis, _) => Some(Proxy::start(redis.port()).await.unwrap()),
                testing::Server::Cluster(_) => None,
            };
            slots.push(Slot { proxy, member: None, last_name: None });
        }
        let streams = actions.iter().map(|action| ACCOUNT.stream(action)).collect();
        Self { world: world.clone(), slots, started: 0, streams }
    }

    /// Starts a consumer where none runs.
    pub(super) async fn start(&mut self, server: &Server, slot: usize, same_name: bool, settings: Settings) {
        let slot = &mut self.slots[slot];
        if slot.member.is_some() {
            return;
        }
        self.started += 1;
        let incarnation = self.started;
        let name = slot.last_name.take().filter(|_| same_name).unwrap_or_else(|| fresh_name("consumer"));
        slot.last_name = Some(name.clone());
        let config = server.redis.config();
        let config = match &slot.proxy {
            Some(proxy) => {
                proxy.set(Line::Good);
                Config::new(proxy.url()).layout(server.redis.layout())
            }
            None => config,
        };
        let store = patient_store(config).await;
        let (open, opened) = watch::channel(true);
        let subscription = on_accounts(Subscription::new("group", &name))
            .streams(self.streams.clone())
            .concurrency(settings.concurrency)
            .claim_after(settings.claim_after)
            .shutdown_within(settings.shutdown)
            .retry(Duration::from_millis(10), LONGEST_PAUSE);
        let handler = Handler {
            world: self.world.clone(),
            incarnation,
            claim_after: settings.claim_after,
            open: opened,
        };
        self.world.sound.lock().unwrap().insert(incarnation, settings.claim_after);
        let running = run(&store, subscription, handler);
        slot.member =
            Some(Member { running, incarnation, name, settings, open, is_stalled: false, is_hung: false });
    }

    fn has_fault(&self, incarnation: Incarnation) {
        self.world.sound.lock().unwrap().remove(&incarnation);
    }

    /// The process dies.
    pub(super) fn kill(&mut self, slot: usize) {
        if let Some(member) = self.slots[slot].member.take() {
            self.has_fault(member.incarnation);
            member.running.kill();
        }
        if let Some(proxy) = &self.slots[slot].proxy {
            proxy.cut();
        }
    }

    /// The process is asked to end. One that cannot reach the server is killed after a while.
    pub(super) async fn leave(&mut self, slot: usize) {
        if self.slots[slot].member.as_ref().is_some_and(|member| member.is_stalled) {
            return self.kill(slot);
        }
        if let Some(member) = self.slots[slot].member.take() {
            member.running.stop().await;
            self.has_fault(member.incarnation);
        }
    }

    pub(super) fn stall(&mut self, slot: usize) {
        let Slot { proxy: Some(proxy), member: Some(member), .. } = &mut self.slots[slot] else { return };
        member.is_stalled = true;
        proxy.set(Line::Stalled);
        let incarnation = member.incarnation;
        self.has_fault(incarnation);
    }

    pub(super) fn hang(&mut self, slot: usize) {
        if let Some(member) = &mut self.slots[slot].member {
            member.is_hung = true;
            member.open.send_replace(false);
        }
    }

    pub(super) fn resume(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if let Some(proxy) = &slot.proxy {
            proxy.set(Line::Good);
        }
        if let Some(member) = &mut slot.member {
            (member.is_stalled, member.is_hung) = (false, false);
            member.open.send_replace(true);
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.slots.iter().filter_map(|slot| slot.member.as_ref())
    }

    /// Those that hang, though their consumers live: what they have begun is theirs.
    pub(super) fn hung(&self) -> Vec<Incarnation> {
        self.all()
            .filter(|member| member.is_hung && !member.is_stalled)
            .map(|member| member.incarnation)
            .collect()
    }

    /// Has a consumer that can work a handler to spare, beside so many that hang?
    pub(super) fn one_can_work(&self, hanging: usize) -> bool {
        let can_work = |m: &Member| !m.is_stalled && !m.is_hung && m.settings.concurrency > hanging;
        self.all().any(can_work)
    }

    pub(super) async fn stop(self) {
        for slot in self.slots {
            if let Some(member) = slot.member {
                member.running.stop().await;
            }
        }
    }
}
