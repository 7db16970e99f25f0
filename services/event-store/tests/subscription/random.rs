//! Order per entity under random schedules: consumers start, are killed, stall until others have
//! claimed what they hold, wake up, and leave, while events are appended, retried, parked and replayed.
//! The model is a plain list for each entity.
//!
//! A failure names its seed; `SUBSCRIPTION_SEED=<seed>` runs that schedule again, and
//! `SUBSCRIPTION_CASES=<n>` runs more of them.

use super::*;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Mutex;

const SLOTS: usize = 3;
const ENTITIES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// An event of an entity, by an action that the subscription takes, or by one that it does not.
    Append(usize, bool),
    Start(usize),
    Kill(usize),
    Stop(usize),
    Stall(usize),
    Wake(usize),
    Replay,
    /// For so many milliseconds nothing is done.
    Rest(u64),
}

fn schedule() -> impl Strategy<Value = Vec<Step>> {
    let slot = 0..SLOTS;
    let step = prop_oneof![
        12 => (0..ENTITIES, proptest::bool::weighted(0.8)).prop_map(|(e, taken)| Step::Append(e, taken)),
        4 => slot.clone().prop_map(Step::Start),
        2 => slot.clone().prop_map(Step::Kill),
        1 => slot.clone().prop_map(Step::Stop),
        2 => slot.clone().prop_map(Step::Stall),
        2 => slot.prop_map(Step::Wake),
        1 => Just(Step::Replay),
        4 => (1_u64..60).prop_map(Step::Rest),
        // Longer than the time after which entries are claimed.
        1 => Just(Step::Rest(500)),
    ];
    vec(step, 60..100)
}

struct Slot {
    proxy: Proxy,
    running: Option<Running>,
}

/// Decides by the event alone, and by how often it was asked.
fn handler(
    cured: &Arc<AtomicBool>,
    asked: &Arc<Mutex<HashMap<Id, usize>>>,
) -> impl event_store::Handler + use<> {
    let (cured, asked) = (cured.clone(), asked.clone());
    let answer = move |event: Event| {
        let cured = cured.load(Ordering::SeqCst);
        let attempt = {
            let mut asked = asked.lock().unwrap();
            let attempt = asked.entry(event.id).or_default();
            *attempt += 1;
            *attempt
        };
        async move {
            tokio::time::sleep(Duration::from_millis(event.version * 7 % 5)).await;
            match event.version {
                n if n % 5 == 3 && attempt == 1 => Outcome::Retry("once more".to_owned()),
                n if n % 9 == 4 && !cured => Outcome::Park("poison".to_owned()),
                n => {
                    Outcome::Done(vec![NewEvent::put(NOTE, "created", &*event.entity_id, &json!({ "n": n }))])
                }
            }
        }
    };
    Recorder { seen: Seen::default(), answer }
}

async fn run_schedule(steps: &[Step]) -> (HashMap<String, Vec<u64>>, HashMap<String, Vec<u64>>) {
    let s = plain().await;
    let (cured, asked) = (Arc::default(), Arc::default());
    let mut slots = Vec::new();
    for _ in 0..SLOTS {
        slots.push(Slot { proxy: Proxy::start(s.redis.single().port()).await.unwrap(), running: None });
    }
    let dead = s.store.dead_letters("group", "account");
    let mut model: HashMap<String, Vec<u64>> = HashMap::new();
    let mut lives = 0;
    for step in steps {
        match *step {
            Step::Append(entity, taken) => {
                let entity = format!("e{entity}");
                let known = model.entry(entity.clone()).or_default();
                let action = match taken {
                    true if known.is_empty() => "created",
                    true => "updated",
                    false => "closed",
                };
                let version = s.store.append(vec![put(action, &entity, 1)]).await.unwrap()[0].version;
                known.extend(taken.then_some(version));
            }
            Step::Start(n) if slots[n].running.is_none() => {
                lives += 1;
                slots[n].proxy.set(testing::Line::Good);
                let url = slots[n].proxy.url();
                let store = EventStore::connect(event_store::Config::new(url)).await.unwrap();
                let one = subscription(&format!("life {lives}")).concurrency(1 + n);
                let one = one.claim_after(Duration::from_millis(300));
                let one = one.shutdown_within(Duration::from_millis(200));
                // Room for one state, for a few, and for all.
                let one = one.read_ahead_bytes([1, 200, 1 << 20][n]);
                slots[n].running = Some(run(&store, one, handler(&cured, &asked)));
            }
            Step::Kill(n) => {
                if let Some(running) = slots[n].running.take() {
                    running.kill();
                }
                slots[n].proxy.cut();
            }
            Step::Stop(n) => {
                if let Some(running) = slots[n].running.take() {
                    running.stop().await;
                }
            }
            Step::Stall(n) => slots[n].proxy.set(testing::Line::Stalled),
            Step::Wake(n) => slots[n].proxy.set(testing::Line::Good),
            // There may be no group yet.
            Step::Replay => drop(dead.replay(&Select::All).await),
            Step::Rest(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Start(_) => {}
        }
    }
    for slot in &slots {
        slot.proxy.set(testing::Line::Good);
    }
    cured.store(true, Ordering::SeqCst);
    let last = run(&s.store, subscription("last"), handler(&cured, &asked));
    let expected: usize = model.values().map(Vec::len).sum();
    eventually("every event has had its effect", || async {
        // Nobody replays what nobody has parked yet, so it is asked for again and again.
        drop(dead.replay(&Select::All).await);
        s.command::<usize>(&["XLEN", "events:note_created"]).await >= expected
            && dead.count().await.unwrap() == 0
            && pending(&s).await == 0
    })
    .await;
    last.stop().await;
    for slot in slots {
        if let Some(running) = slot.running {
            running.stop().await;
        }
    }
    let mut effects: HashMap<String, Vec<u64>> = HashMap::new();
    let note = |event: Event| {
        effects.entry(event.entity_id.clone()).or_default().push(event.entity["n"].as_u64().unwrap());
    };
    s.store.replay(&[NOTE.stream("created")], note).await.unwrap();
    model.retain(|_, versions| !versions.is_empty());
    (effects, model)
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_are_those_of_a_plain_list_per_entity_however_consumers_die_stall_and_come_back() {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let first = from_env("SUBSCRIPTION_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    for seed in first..first + from_env("SUBSCRIPTION_CASES").unwrap_or(4) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let steps = schedule().new_tree(&mut runner).unwrap().current();
        println!("SUBSCRIPTION_SEED={seed} {steps:?}");
        let (effects, model) = run_schedule(&steps).await;
        assert_eq!(effects, model, "SUBSCRIPTION_SEED={seed}");
    }
}
