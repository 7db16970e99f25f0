//! The memory of a consumer is bounded in bytes, and the bound keeps nothing from being handled.

use super::*;
use std::collections::HashSet;

const MEGABYTE: usize = 1 << 20;
const LARGE: u64 = 60;

/// In a process of its own: what it handles in turn is told by notes, in the order of the log.
pub(super) async fn handle_large(store: EventStore) {
    let one = subscription("child").concurrency(1).read_ahead_bytes(4 * MEGABYTE);
    let answer = |event: Event| async move {
        let id = event.version.to_string();
        let length = event.entity["text"].as_str().map_or(0, str::len);
        Outcome::Done(vec![NewEvent::put(NOTE, "created", &*id, &json!({ "id": id, "length": length }))])
    };
    let consumer = store.subscribe(one);
    consumer.run(Recorder { seen: Seen::default(), answer }, CancellationToken::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_large_events_handles_them_in_order_within_its_bound_of_memory() {
    let s = server().await;
    let state = json!({ "id": "large", "text": "x".repeat(MEGABYTE) });
    for _ in 0..LARGE {
        s.store.append(vec![NewEvent::put(ACCOUNT, "updated", "large", &state)]).await.unwrap();
    }
    let mut child = Child::start("large", &s);
    patiently("all are handled", || async {
        s.command::<u64>(&["XLEN", "events:note_created"]).await == LARGE
    })
    .await;
    let peak = child.peak_memory();
    child.kill();
    let mut versions = Vec::new();
    let told = |event: Event| {
        assert_eq!(event.entity["length"], MEGABYTE, "a handler always has the whole state");
        versions.push(event.entity_id.parse::<u64>().unwrap());
    };
    s.store.replay(&[NOTE.stream("created")], told).await.unwrap();
    assert_eq!(versions, (1..=LARGE).collect::<Vec<_>>());
    // What it reads ahead, a few reads on their way in several forms, and the program itself.
    let bound = 64 * MEGABYTE as u64;
    assert!(peak < bound, "{} MiB at its peak", peak >> 20);
}

/// With room for one state, all other entries are held without theirs: claimed ones, the own pending ones, and those that
/// are read while a handler waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_room_for_one_state_handles_everything_in_order_whoever_dies() {
    let s = server().await;
    let entities = 5;
    for n in 0..400 {
        s.store.append(vec![put("updated", &format!("e{}", n % entities), n)]).await.unwrap();
    }
    let seen = Seen::default();
    let with_state = |event: Event| async move {
        tokio::time::sleep(Duration::from_micros(200)).await;
        let own = event.entity["id"] == event.entity_id;
        if own { Outcome::Done(Vec::new()) } else { Outcome::Park("the state is not its own".to_owned()) }
    };
    let start = |name: &str, concurrency| {
        let one = subscription(name).concurrency(concurrency).read_ahead_bytes(1);
        run(&s.store, one, Recorder { seen: seen.clone(), answer: with_state })
    };
    let first = start("first", 16);
    patiently("the first is at work", || async { count(&seen) > 20 }).await;
    first.kill();
    // Its own pending entries, and then those of a dead one.
    let again = start("first", 16);
    patiently("it is at work again", || async { count(&seen) > 60 }).await;
    again.kill();
    let last = start("last", 1);
    patiently("nothing is left", || async {
        let distinct: HashSet<_> =
            seen.lock().unwrap().iter().map(|(id, version, _)| (id.clone(), *version)).collect();
        distinct.len() == 400 && pending(&s).await == 0
    })
    .await;
    last.stop().await;
    assert_eq!(s.store.dead_letters("group", "account").count().await.unwrap(), 0);
    for entity in 0..entities {
        let mut versions = versions(&seen, &format!("e{entity}"));
        versions.dedup();
        assert!(versions.is_sorted(), "e{entity}: {versions:?}");
    }
}
