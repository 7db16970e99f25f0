//! Processes that run under one consumer's name: a successor, and a mistake in the configuration.

use super::*;
use event_store::Observation;

/// A consumer with what is observed of it.
fn observed(s: &Server, subscription: Subscription, seen: &Seen) -> (Observation, Running) {
    let consumer = s.store.subscribe(subscription);
    let (observed, cancel) = (consumer.observe(), CancellationToken::new());
    let task = tokio::spawn(consumer.run(recorder(seen), cancel.clone()));
    (observed, Running { task, cancel })
}

async fn append(s: &Server, from: u64, to: u64) {
    for n in from..to {
        s.store.append(vec![put("created", &n.to_string(), n)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_with_one_name_the_newer_handles_and_the_older_goes_on_when_that_one_is_gone() {
    let s = server().await;
    let [older, newer] = [Seen::default(), Seen::default()];
    // Long enough for the heartbeats of a busy machine.
    let one = || on_accounts(Subscription::new("group", "one")).claim_after(Duration::from_secs(2));
    let (older_observed, first) = observed(&s, one(), &older);
    append(&s, 0, 20).await;
    // What is handled and not finished would be handled again by the next one.
    let finished = async |seen: &Seen, events: usize| {
        eventually("they are handled", || async { count(seen) == events && pending(&s).await == 0 }).await;
    };
    finished(&older, 20).await;
    assert!(!older_observed.is_name_taken());

    for end in [Running::kill, |running: Running| drop(tokio::spawn(running.stop()))] {
        let (before, there) = (count(&older), count(&newer));
        let (newer_observed, second) = observed(&s, one(), &newer);
        eventually("the older one notices", || async { older_observed.is_name_taken() }).await;
        assert!(older_observed.ready(), "it is no reason to take the process out of service");
        let from = (before + there) as u64;
        append(&s, from, from + 20).await;
        finished(&newer, there + 20).await;
        assert_eq!(count(&older), before, "and it alone");
        assert!(!newer_observed.is_name_taken());

        end(second);
        eventually("the older one goes on", || async { !older_observed.is_name_taken() }).await;
        append(&s, from + 20, from + 40).await;
        finished(&older, before + 20).await;
        assert_eq!(count(&newer), there + 20);
    }
    first.stop().await;
}

/// A container that is restarted in its pod has the name of the one that crashed: it must not wait for the claim time.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_the_same_name_handles_at_once_what_its_crash_left() {
    let s = server().await;
    let patient = || on_accounts(Subscription::new("group", "one")).claim_after(Duration::from_mins(10));
    append(&s, 0, 20).await;
    let stuck = Seen::default();
    let never = |_| std::future::pending::<Outcome>();
    let crashed = run(&s.store, patient(), Recorder { seen: stuck.clone(), answer: never });
    eventually("it is at work", || async { count(&stuck) > 0 && pending(&s).await == 20 }).await;
    crashed.kill();
    let seen = Seen::default();
    let (observed, restarted) = observed(&s, patient(), &seen);
    eventually("all are handled", || async { count(&seen) == 20 && pending(&s).await == 0 }).await;
    assert!(!observed.is_name_taken());
    restarted.stop().await;
}

/// A successor that starts before its predecessor has ended: what is in the successor's hands stays there.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leaves_hands_back_nothing_of_the_one_that_has_its_name() {
    let s = server().await;
    let patient = |name| {
        on_accounts(Subscription::new("group", name))
            .claim_after(Duration::from_mins(10))
            .shutdown_within(Duration::ZERO)
    };
    append(&s, 0, 20).await;
    let (older, newer) = (Seen::default(), Seen::default());
    let hangs = |_| std::future::pending::<Outcome>();
    let first = run(&s.store, patient("one"), Recorder { seen: older.clone(), answer: hangs });
    eventually("the older one is at work", || async { count(&older) > 0 && pending(&s).await == 20 }).await;
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let answer = move |_| {
        let gate = gate.clone();
        async move {
            while !gate.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Outcome::Done(Vec::new())
        }
    };
    let second = run(&s.store, patient("one"), Recorder { seen: newer.clone(), answer });
    eventually("the newer one has taken over", || async { count(&newer) > 0 }).await;
    first.stop().await;
    // What is handed back is older than any entry of a consumer that lives.
    let idle = ["XPENDING", "events:account_created", "group", "IDLE", "3600000", "-", "+", "20"];
    assert_eq!(s.command::<Vec<redis::Value>>(&idle).await, []);
    assert_eq!(pending(&s).await, 20);
    open.store(true, Ordering::SeqCst);
    eventually("all are handled", || async { pending(&s).await == 0 }).await;
    assert_eq!(count(&newer), 20);
    second.stop().await;
}
