//! What is done in two steps because it lies in two slots, and what the cluster's client does twice.

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "as a recorder's answer")]
fn note(event: Event) -> std::future::Ready<Outcome> {
    let id = format!("of {}", event.entity_id);
    std::future::ready(Outcome::Done(vec![NewEvent::put(NOTE, "created", &*id, &json!({ "id": id }))]))
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_in_another_slot_are_there_once_though_the_consumer_dies_before_it_acknowledges() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let (source, target) = (nodes.owner_of(STREAM), nodes.owner_of("events:{note}_created"));
    assert_ne!(source, target, "the two steps go to two servers");
    for n in 0..20 {
        s.store.append(vec![put("created", &format!("a{n}"), n)]).await.unwrap();
    }
    // Each life appends outputs and dies before the server of the source hears that it is done.
    for life in 0..5_usize {
        let doomed = EventStore::connect(config.clone()).await.unwrap();
        let had = s.command::<u64>(&["XLEN", "events:note_created"]).await;
        for nth in 1..=40 {
            proxies[source].lose(Lost::Command, "finish", nth);
        }
        let name = format!("life {life}");
        let recorder = Recorder { seen: Seen::default(), answer: note };
        let running = doomed.subscribe(subscription(&name)).run(recorder, CancellationToken::new());
        let task = spawn(running);
        eventually("outputs without an acknowledgement", || async {
            s.command::<u64>(&["XLEN", "events:note_created"]).await > had
                || (had == 20 && proxies[source].lost() > life)
        })
        .await;
        task.abort();
    }
    assert!(proxies[source].lost() >= 5);
    let cancel = CancellationToken::new();
    let recorder = Recorder { seen: Seen::default(), answer: note };
    let running = s.store.subscribe(subscription("last")).run(recorder, cancel.clone());
    let last = spawn(running);
    eventually("everything is acknowledged", || async {
        let pending: Vec<redis::Value> = s.command(&["XPENDING", "events:account_created", "group"]).await;
        let delivered = s.command::<u64>(&["SCARD", "note_ids"]).await == 20;
        delivered && redis::from_redis_value::<u64>(pending[0].clone()).unwrap() == 0
    })
    .await;
    cancel.cancel();
    last.await.unwrap();
    assert_eq!(s.command::<u64>(&["XLEN", "events:note_created"]).await, 20, "each output exactly once");
    assert_eq!(s.command::<u64>(&["XLEN", "eventstore:group:group:dead"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_sees_its_own_outputs_when_it_is_asked_again_changes_nothing_twice() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let source = &proxies[nodes.owner_of(STREAM)];
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    // Reads the sum and adds one to it: after a death between the two steps it reads its own sum.
    let adding = |store: EventStore| Recorder {
        seen: Seen::default(),
        answer: move |_| {
            let store = store.clone();
            async move {
                let (n, version) = match store.entity(NOTE, "sum").await.unwrap() {
                    Some(sum) => (sum.body["n"].as_u64().unwrap(), sum.version),
                    None => (0, 0),
                };
                let sum = NewEvent::put(NOTE, "created", "sum", &json!({ "n": n + 1 }));
                Outcome::Done(vec![sum.expect(event_store::Expected::Exactly(version))])
            }
        },
    };
    for nth in 1..=40 {
        source.lose(Lost::Command, "finish", nth);
    }
    let doomed = EventStore::connect(config).await.unwrap();
    let running =
        doomed.subscribe(subscription("doomed")).run(adding(s.store.clone()), CancellationToken::new());
    let task = spawn(running);
    eventually("its output is there", || async {
        s.command::<u64>(&["XLEN", "events:note_created"]).await == 1
    })
    .await;
    task.abort();
    let cancel = CancellationToken::new();
    let last = spawn(s.store.subscribe(subscription("last")).run(adding(s.store.clone()), cancel.clone()));
    eventually("acknowledged", || async {
        let pending: Vec<redis::Value> = s.command(&["XPENDING", "events:account_created", "group"]).await;
        redis::from_redis_value::<u64>(pending[0].clone()).unwrap() == 0
    })
    .await;
    cancel.cancel();
    last.await.unwrap();
    assert_eq!(s.store.entity(NOTE, "sum").await.unwrap().unwrap().body["n"], 1, "added once");
    assert_eq!(s.command::<u64>(&["XLEN", "eventstore:group:group:dead"]).await, 0, "and parked by nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_the_clusters_client_sent_twice_is_one_event() {
    let s = start(Setup::Cluster).await;
    let Running::Cluster(nodes) = &s.redis else { panic!("a cluster was asked for") };
    let names: Vec<String> = nodes.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let store = EventStore::connect(config).await.unwrap();
    let owner = &proxies[nodes.owner_of(STREAM)];
    for version in 1..=5 {
        owner.lose(Lost::Reply, "append", 1);
        let event = put("created", "a", version).expect(event_store::Expected::Exactly(version - 1));
        assert_eq!(store.append(vec![event]).await.unwrap()[0].version, version);
    }
    assert_eq!(owner.lost(), 5);
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 5);
}
