//! How a consumer reads: what it holds is bounded, and a stream that has room again waits for no other.

use super::*;
use tokio::sync::Semaphore;

/// How often the server was asked to end a read that waits.
async fn reads_ended(s: &Server) -> u64 {
    let commands: String = s.command(&["INFO", "commandstats"]).await;
    let line = commands.lines().find_map(|line| line.strip_prefix("cmdstat_client|unblock:calls="));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_room_again_is_read_on_though_the_read_under_way_waits_for_another() {
    let s = plain().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let answer = move |_| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Outcome::Done(Vec::new())
        }
    };
    let seen = Seen::default();
    // Nobody is ever claimed from, and the signs of life do not end reads.
    let patient = subscription("one").claim_after(Duration::from_mins(10));
    let consumer = run(&s.store, patient, Recorder { seen: seen.clone(), answer });
    let waiting = || async {
        let clients: String = s.command(&["CLIENT", "LIST"]).await;
        clients.lines().any(|client| client.contains("cmd=xreadgroup") && client.contains("flags=b"))
    };
    // A read ends by itself after two seconds; where that comes just when there is room, nobody need end it.
    for round in 1..=5 {
        for part in 0..16 {
            let events = (0..100).map(|n| put("created", &format!("a{round}-{part}-{n}"), n));
            s.store.append(events.collect()).await.unwrap();
        }
        // It holds as much of the one stream as it may, and waits for the other, which gets nothing.
        eventually("it waits", || async { waiting().await && pending(&s).await >= 1200 }).await;
        assert!(pending(&s).await < 1600, "what is held is bounded");
        assert_eq!(reads_ended(&s).await, 0, "nothing has changed yet");
        gate.add_permits(1600);
        eventually("the rest is handled", || async {
            count(&seen) == 1600 * round && pending(&s).await == 0
        })
        .await;
        if reads_ended(&s).await > 0 {
            break;
        }
    }
    assert!(reads_ended(&s).await > 0, "the read that waited for nothing was ended");
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_which_a_read_is_lost_is_handled_once_and_in_the_order_of_the_log() {
    let s = plain().await;
    let mut appended = Vec::new();
    for n in 0..20 {
        let events = (0..100).map(|i| {
            let action = if (n / 5 + i) % 3 == 0 { "created" } else { "updated" };
            put(action, &format!("a{}", (7 * n + i) % 300), i)
        });
        appended.extend(s.store.append(events.collect()).await.unwrap().iter().map(|a| a.id));
    }
    let proxy = Proxy::start(s.redis.single().port()).await.unwrap();
    let store = EventStore::connect(Config::new(proxy.url())).await.unwrap();
    // The first two look for what is pending; of the others several are under way at a time.
    let reads = (1..=6).flat_map(|nth| [(Lost::Reply, nth), (Lost::Command, nth)]);
    for (number, (what, nth)) in reads.enumerate() {
        let ids: Arc<std::sync::Mutex<Vec<Id>>> = Arc::default();
        let seen = ids.clone();
        let answer = move |event: Event| {
            seen.lock().unwrap().push(event.id);
            std::future::ready(Outcome::Done(Vec::new()))
        };
        proxy.lose(what, "xreadgroup", nth);
        let one = Subscription::new(format!("group{number}"), "one")
            .streams([ACCOUNT.stream("created"), ACCOUNT.stream("updated")])
            .concurrency(1);
        let consumer = run(&store, one, Recorder { seen: Seen::default(), answer });
        eventually("all is handled", || async { ids.lock().unwrap().len() >= appended.len() }).await;
        consumer.stop().await;
        assert_eq!(proxy.lost(), number + 1, "{what:?} {nth}");
        let ids = ids.lock().unwrap();
        let wrong = ids.iter().zip(&appended).find(|(handled, expected)| handled != expected);
        assert_eq!((ids.len(), wrong), (appended.len(), None), "{what:?} {nth}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handlers_that_compute_for_long_share_the_cores_also_after_some_that_did_not() {
    assert!(
        std::thread::available_parallelism().unwrap().get() > 1,
        "this can be seen on several cores only"
    );
    let s = server().await;
    let (seen, at_once, most) =
        (Seen::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let answer = {
        let most = most.clone();
        move |event: Event| {
            if event.action() == "updated" {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Not a wait for something: the work of this handler.
                std::thread::sleep(Duration::from_millis(5));
                at_once.fetch_sub(1, Ordering::SeqCst);
            }
            std::future::ready(Outcome::Done(Vec::new()))
        }
    };
    let consumer = run(&s.store, subscription("one"), Recorder { seen: seen.clone(), answer });
    let all =
        |action: &'static str| (0..40).map(move |n| put(action, &format!("e{n}"), 0)).collect::<Vec<_>>();
    s.store.append(all("created")).await.unwrap();
    eventually("the quick ones", || async { count(&seen) == 40 }).await;
    s.store.append(all("updated")).await.unwrap();
    eventually("those that take long", || async { count(&seen) == 80 }).await;
    consumer.stop().await;
    assert!(most.load(Ordering::SeqCst) > 1, "one after another");
}
