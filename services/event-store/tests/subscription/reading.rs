//! How a consumer reads: what it holds is bounded, and a stream that has room again waits for no other.

use super::*;
use tokio::sync::Semaphore;

/// How often the server was asked to end a read that waits.
async fn reads_ended(s: &Server) -> u64 {
    let commands: String = s.command(&["INFO", "commandstats"]).await;
    let line = commands.lines().find_map(|line| line.strip_prefix("cmdstat_client|unblock:calls="));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
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
        for part in 0..12 {
            let events = (0..100).map(|n| put("created", &format!("a{round}-{part}-{n}"), n));
            s.store.append(events.collect()).await.unwrap();
        }
        // It holds as much of the one stream as it may, and waits for the other, which gets nothing.
        eventually("it waits", || async { waiting().await && pending(&s).await >= 800 }).await;
        assert!(pending(&s).await < 1200, "what is held is bounded");
        assert_eq!(reads_ended(&s).await, 0, "nothing has changed yet");
        gate.add_permits(1200);
        eventually("the rest is handled", || async {
            count(&seen) == 1200 * round && pending(&s).await == 0
        })
        .await;
        if reads_ended(&s).await > 0 {
            break;
        }
    }
    assert!(reads_ended(&s).await > 0, "the read that waited for nothing was ended");
    consumer.stop().await;
}
