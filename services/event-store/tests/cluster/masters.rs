//! Masters that fail, slots that move.

use super::*;

/// The ids and versions that the log has, per entity checked to be 1, 2, 3, …
async fn log(store: &EventStore) -> Vec<Id> {
    let mut ids = Vec::new();
    let mut next = std::collections::HashMap::new();
    let mut tail = store.tail(vec![ACCOUNT.stream("created"), ACCOUNT.stream("updated")], Id::ZERO);
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Ok(Ok(events)) = tokio::time::timeout(Duration::from_secs(4), tail.next()).await {
        for event in events {
            let version = next.entry(event.entity_id.clone()).or_insert(1);
            assert_eq!(event.version, *version, "{} has a gap", event.entity_id);
            *version += 1;
            ids.push(event.id);
        }
        assert!(tokio::time::Instant::now() < end, "the log does not end");
    }
    ids
}

/// Appends one event after another until told to stop; answers what was acknowledged, in order.
fn writer(store: &EventStore, entity: &'static str, stop: &CancellationToken) -> JoinHandle<Vec<Id>> {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        while !stop.is_cancelled() {
            let action = if acknowledged.is_empty() { "created" } else { "updated" };
            let event = put(action, entity, acknowledged.len() as u64);
            acknowledged.push(store.append(vec![event]).await.unwrap()[0].id);
        }
        acknowledged
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_a_master_loses_no_event_that_its_replica_has_and_ids_and_groups_go_on() {
    let mut s = start(Setup::Cluster).await;
    let owner = cluster(&mut s).owner_of(STREAM);
    let replica = cluster(&mut s).add_replica_of(owner);
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let store = EventStore::connect(config).await.unwrap();
    let seen = Seen::default();
    let group = Group::of_two(&store, &seen);
    let mut before = Vec::new();
    for n in 0..50 {
        let action = if n == 0 { "created" } else { "updated" };
        before.push(store.append(vec![put(action, "a", n)]).await.unwrap()[0].id);
    }
    eventually("the group has handled them", || async { count(&seen) >= 50 }).await;
    cluster(&mut s).wait_for_replica(replica);
    cluster(&mut s).node_mut(owner).kill();

    let stop = CancellationToken::new();
    let after = writer(&store, "b", &stop);
    patiently("events of after the failover are handled", || async { versions(&seen, "b").len() > 50 }).await;
    stop.cancel();
    let after = after.await.unwrap();
    assert_eq!(cluster(&mut s).owner_of(STREAM), replica);
    patiently("all are handled", || async { versions(&seen, "b").last() == Some(&(after.len() as u64)) })
        .await;
    group.stop().await;

    assert!(after[0] > before[49], "ids go on: {} after {}", after[0], before[49]);
    let ids = log(&store).await;
    assert!(ids.is_sorted_by(|a, b| a < b), "every id once and in order");
    let ids: HashSet<Id> = ids.into_iter().collect();
    assert!(before.iter().chain(&after).all(|id| ids.contains(id)), "an acknowledged event is gone");
    assert!(versions(&seen, "a").is_sorted() && versions(&seen, "b").is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_that_a_copy_has_confirmed_and_what_is_unknown_is_appended_again_once() {
    let mut s = start(Setup::Cluster).await;
    let owner = cluster(&mut s).owner_of(STREAM);
    let replica = cluster(&mut s).add_replica_of(owner);
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let copied = Durability::Replicas { count: 1, timeout: Duration::from_millis(300) };
    let careful = EventStore::connect(config.durability(copied)).await.unwrap();
    let event =
        |n: u64| put(if n == 1 { "created" } else { "updated" }, "a", n).event_id(Uuid::from_u128(n.into()));
    let mut confirmed = Vec::new();
    for n in 1..=20 {
        confirmed.push(careful.append(vec![event(n)]).await.unwrap()[0].id);
    }
    cluster(&mut s).nodes()[replica].stall();
    for n in 21..=25 {
        let error = careful.append(vec![event(n)]).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Unknown { wanted: 1, confirmed: 0 });
    }
    cluster(&mut s).node_mut(owner).kill();
    cluster(&mut s).nodes()[replica].resume();

    let store = s.store.clone();
    for n in 21..=25 {
        let again = || async {
            let answer = store.append(vec![event(n)]).await;
            // Seen only when the test fails: it then says whether the cluster or the client stood still.
            eprintln!("{n}: {answer:?}");
            answer.is_ok_and(|appended| appended[0].version == n)
        };
        patiently("appended again", again).await;
    }
    assert_eq!(cluster(&mut s).owner_of(STREAM), replica);
    let ids = log(&store).await;
    assert_eq!(ids.len(), 25, "each event once");
    assert_eq!(ids[..20], confirmed, "what a copy has confirmed is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_while_it_is_used_loses_no_event_and_its_group_goes_on() {
    let mut s = start(Setup::Cluster).await;
    let config = s.redis.config().append_deadline(Duration::from_secs(30));
    let store = EventStore::connect(config).await.unwrap();
    let seen = Seen::default();
    let group = Group::of_two(&store, &seen);
    let stop = CancellationToken::new();
    let writers = [writer(&store, "a", &stop), writer(&store, "b", &stop)];
    eventually("work is under way", || async { count(&seen) > 20 }).await;
    let from = cluster(&mut s).owner_of(STREAM);
    for to in [(from + 1) % 3, (from + 2) % 3] {
        tokio::task::block_in_place(|| cluster(&mut s).move_slot_of(STREAM, to, Duration::from_millis(2500)));
        assert_eq!(cluster(&mut s).owner_of(STREAM), to);
        let so_far = count(&seen);
        eventually("the group goes on there", || async { count(&seen) > so_far + 20 }).await;
    }
    stop.cancel();
    let mut acknowledged = Vec::new();
    for (entity, writer) in ["a", "b"].into_iter().zip(writers) {
        let ids = writer.await.unwrap();
        let last = ids.len() as u64;
        eventually("all are handled", || async { versions(&seen, entity).last() == Some(&last) }).await;
        assert_eq!(versions(&seen, entity), (1..=last).collect::<Vec<u64>>(), "{entity}: once and in order");
        acknowledged.extend(ids);
    }
    group.stop().await;
    acknowledged.sort_unstable();
    assert_eq!(log(&store).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_has_not_the_functions_gets_them_when_it_is_first_asked() {
    let mut s = start(Setup::Cluster).await;
    s.store.append(vec![put("created", "a", 1)]).await.unwrap();
    let to = (cluster(&mut s).owner_of(STREAM) + 1) % 3;
    let () = on(&cluster(&mut s).nodes()[to], redis::cmd("FUNCTION").arg("FLUSH")).await;
    cluster(&mut s).move_slot_of(STREAM, to, Duration::ZERO);
    assert_eq!(s.store.append(vec![put("updated", "a", 2)]).await.unwrap()[0].version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_works_again_though_its_client_lost_every_node_while_it_asked_for_their_slots() {
    let mut s = start(Setup::Cluster).await;
    let nodes = cluster(&mut s);
    let names: Vec<String> = nodes.nodes().iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let (proxies, config) = behind_proxies(nodes, &names).await;
    let store = EventStore::connect(config.append_deadline(Duration::from_millis(500))).await.unwrap();
    eventually("the first", || async { store.append(vec![put("created", "a", 1)]).await.is_ok() }).await;
    // All that is left is a line to a node that sends elsewhere, and it ends when the slots have come over it.
    let left = (nodes.owner_of(STREAM) + 1) % 3;
    proxies[left].lose(Lost::Command, "ping", 1);
    for (number, proxy) in proxies.iter().enumerate() {
        proxy.set(Line::Refusing);
        if number != left {
            proxy.cut();
        }
    }
    let away = store.append(vec![put("updated", "a", 2)]).await.unwrap_err();
    assert_eq!((away.kind(), proxies[left].lost()), (AppendErrorKind::Unavailable, 1), "{away}");
    for proxy in &proxies {
        proxy.set(Line::Good);
    }
    eventually("appended", || async { store.append(vec![put("updated", "a", 2)]).await.is_ok() }).await;
}
