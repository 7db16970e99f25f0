//! A consumer's heartbeat for the streams that it reads, and the look at those that nobody reads. Decides nothing.

use super::Subscription;
use super::streams::{self, LEASE, StreamList, UnreadStream};
use crate::error::ReadError;
use crate::{EventStore, StreamName, entry, functions, groups};
use std::time::{Duration, Instant};

/// Stores that this consumer reads its streams; the streams that its group reads.
pub(super) async fn register(
    store: &EventStore,
    subscription: &Subscription,
    cursors: &str,
) -> Result<StreamList, ReadError> {
    let asked = Instant::now();
    let mut args = vec![
        streams::counts_as_read(subscription.claim_after).as_millis().to_string(),
        LEASE.as_millis().to_string(),
    ];
    args.extend(subscription.streams.iter().map(ToString::to_string));
    let keys = [cursors.to_owned()];
    let words = entry::words(functions::call(&mut store.connection(), "streams", &keys, &args).await?);
    let list = match words.split_first() {
        Some((word, rest)) if word == "ok" => StreamList::parse(asked, rest),
        _ => None,
    };
    list.ok_or_else(|| ReadError::malformed(format!("streams of the group: the server answered {words:?}")))
}

/// The streams of the group that no living consumer reads although entries wait there.
pub(super) async fn unread(
    store: &EventStore,
    subscription: &Subscription,
    list: &StreamList,
) -> Vec<UnreadStream> {
    let mut unread = Vec::new();
    for (stream, since) in list.unread() {
        if is_read_by_an_older_program(store, subscription, &stream).await {
            continue;
        }
        // A program may lack the right to look at a stream that it does not read.
        let waiting = match groups::of(store, &stream).await {
            Ok(groups) => match groups.into_iter().find(|group| group.name == subscription.group) {
                Some(group) => group.lag.map(|lag| lag + group.pending),
                // The group was removed from the stream.
                None => continue,
            },
            Err(_) => None,
        };
        if waiting != Some(0) {
            unread.push(UnreadStream { stream, since, waiting });
        }
    }
    unread
}

/// Programs older than the list of streams do not store what they read; the server knows when they last did.
async fn is_read_by_an_older_program(
    store: &EventStore,
    subscription: &Subscription,
    stream: &StreamName,
) -> bool {
    let recent = streams::counts_as_read(subscription.claim_after);
    let consumers = store.inspect().consumers(stream, &subscription.group).await.unwrap_or_default();
    consumers.iter().any(|consumer| Duration::from_millis(consumer.idle_ms) < recent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Kind, testing};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_stops_counting_as_read_also_after_the_servers_clock_was_set_back() {
        let redis = testing::Redis::start();
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        let stored = "account_closed 9000000000000 9000000000000 9000000000300";
        let mut set = redis::cmd("HSET");
        set.arg("cursors").arg("@").arg(stored).exec_async(&mut store.connection()).await.unwrap();
        let subscription =
            Subscription::new("group", "one").streams([Kind::new("account").stream("updated")]);
        let list = register(&store, &subscription, "cursors").await.unwrap();
        assert_eq!(list.unread().count(), 0, "as if its last heartbeat were one of now");
        let deadline = Instant::now() + Duration::from_secs(20);
        while register(&store, &subscription, "cursors").await.unwrap().unread().count() == 0 {
            assert!(Instant::now() < deadline, "it counts as read for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
