//! `eventstore settings`, and what commands learn from the store instead of the command line.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use event_store::testing::Redis;
use event_store::{Config, EventStore, Kind, Layout, NewEvent};
use serde_json::json;
use support::{Ended, run};

const ORDER: Kind = Kind::new("order").lists(&["products"]).indexes(&["customer"]);

async fn filled(layout: Layout) -> (Redis, EventStore) {
    let redis = Redis::start();
    let store = EventStore::connect(Config::new(redis.url()).layout(layout)).await.unwrap();
    let body = |id: &str| json!({ "id": id, "customer": "ada", "products": ["pen"], "notes": ["a", "b"] });
    for id in ["1", "2"] {
        store.append(vec![NewEvent::put(ORDER, "created", id, &body(id))]).await.unwrap();
    }
    (redis, store)
}

#[tokio::test]
async fn a_healthy_store_is_verified_without_a_word_about_its_kinds_or_layout() {
    for layout in [Layout::Plain, Layout::Tagged] {
        let (redis, _store) = filled(layout).await;
        let verified = run(&redis.url(), &["verify", "--json"]).json();
        assert_eq!((&verified["entities"], &verified["differences"]), (&2.into(), &json!([])));
        assert_eq!(run(&redis.url(), &["verify", "--rebuild", "--json"]).json()["rebuilt"], 0);
    }
}

#[tokio::test]
async fn settings_are_shown_and_changed_by_one_command_each() {
    let (redis, store) = filled(Layout::Plain).await;
    let settings = |words: &[&str]| -> Ended { run(&redis.url(), &[&["settings"][..], words].concat()) };
    let shown = settings(&[]).ok();
    assert!(shown.contains("layout        plain") && shown.contains("dedup window  1h"), "{shown}");
    assert!(shown.contains("order") && shown.contains("products") && shown.contains("customer"), "{shown}");

    assert_eq!(settings(&["dedup-window", "2h"]).code, 2, "nobody is there to say yes");
    settings(&["dedup-window", "2h", "--yes"]).ok();
    assert_eq!(settings(&["--json"]).json()["dedup_window_ms"], 7_200_000);

    let changed = settings(&["kind", "order", "--lists", "products,notes", "--yes", "--json"]).json();
    assert_eq!(changed["rebuilt"], 2);
    let kinds = settings(&["--json"]).json()["kinds"].clone();
    assert_eq!(kinds[0]["lists"], json!(["products", "notes"]));
    assert_eq!(run(&redis.url(), &["verify"]).code, 0);
    settings(&["kind", "order", "--indexes", "", "--yes"]).ok();
    assert_eq!(settings(&["--json"]).json()["kinds"][0]["indexes"], json!([]));
    assert_eq!(run(&redis.url(), &["verify"]).code, 0);
    let error = store.ids_where(ORDER, "customer", "ada").await.unwrap_err();
    assert!(error.to_string().contains("no index on customer"), "{error}");
    assert_eq!(settings(&["kind", "never", "--lists", "", "--yes"]).code, 4);
    assert_eq!(settings(&["kind", "order", "--lists", "a b", "--yes"]).code, 2);
}
