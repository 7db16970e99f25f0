//! The question to the server whether events may be handled now. Answers only, decides nothing.

use super::finish::Group;
use super::item::{Before, Item, Place, field};
use super::streams::StreamList;
use crate::StreamName;
use crate::{entry, functions};
use std::sync::Arc;
use std::time::Instant;

/// Events that are asked about.
pub(super) type Asked = Vec<(Place, Arc<Item>)>;

/// What the server answers.
pub(super) enum Answer {
    /// A word for each event, in their order.
    Each(Vec<String>),
    /// The group reads streams of which the question did not know: to be asked again.
    Streams(StreamList),
}

pub(super) async fn ask(group: &Group, events: &Asked) -> Result<Answer, redis::RedisError> {
    let asked = Instant::now();
    let mut keys = vec![group.positions.clone(), group.letters.clone(), group.cursors.clone()];
    keys.extend(group.keys.iter().cloned());
    keys.extend(group.others.iter().map(|other| other.key.clone()));
    let key_of = |stream: usize| (stream + 4).to_string();
    let subscription = &group.subscription;
    let mut args =
        vec![subscription.group.clone(), subscription.consumer.clone(), group.stream_names.to_string()];
    for ((id, stream), item) in events {
        args.extend([key_of(*stream), item.event.stream.to_string(), id.to_string()]);
        args.push(item.marks.len().to_string());
        args.extend(item.fields().map(|field| field.concat()));
        let others = item.before_on(&group.others);
        args.push((item.before.len() + others.len()).to_string());
        let keys: Vec<&str> = item.event.after.keys().collect();
        let mut before = |before: &Before, stream: &StreamName, key: usize| {
            args.extend([field(keys[before.key], stream).concat(), key_of(key), before.id.to_string()]);
        };
        for one in &item.before {
            before(one, &subscription.streams[one.stream], one.stream);
        }
        for one in &others {
            before(one, &group.others[one.stream].stream, group.keys.len() + one.stream);
        }
    }
    let words = entry::words(functions::call(&mut group.store.connection(), "ready", &keys, &args).await?);
    let unexpected = |text| redis::RedisError::from((redis::ErrorKind::UnexpectedReturnType, text));
    match words.split_first() {
        Some((word, list)) if word == "streams" => StreamList::parse(asked, list)
            .map(Answer::Streams)
            .ok_or_else(|| unexpected("ready answers the list of streams")),
        _ if words.len() == events.len() => Ok(Answer::Each(words)),
        _ => Err(unexpected("ready answers one word for each event")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::register::register;
    use crate::{Config, EventStore, Kind, Subscription, testing};
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_question_that_does_not_know_of_a_stream_of_the_group_is_answered_with_the_streams() {
        let redis = testing::Redis::start();
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        let account = Kind::new("account");
        let subscription = |consumer: &str, actions: &[&'static str]| {
            let subscription = Subscription::new("group", consumer).claim_after(Duration::from_millis(100));
            Arc::new(subscription.streams(actions.iter().map(|action| account.stream(action))))
        };
        let (old, new) = (subscription("old", &["updated"]), subscription("new", &["updated", "closed"]));
        let mut group = Group {
            store: store.clone(),
            subscription: old.clone(),
            keys: Vec::new(),
            positions: "positions".to_owned(),
            dead: "dead".to_owned(),
            letters: "letters".to_owned(),
            cursors: "cursors".to_owned(),
            others: Arc::default(),
            stream_names: Arc::from(" account_updated "),
        };
        register(&store, &old, "cursors").await.unwrap();
        assert!(matches!(ask(&group, &Vec::new()).await.unwrap(), Answer::Each(_)));
        register(&store, &new, "cursors").await.unwrap();
        assert!(matches!(ask(&group, &Vec::new()).await.unwrap(), Answer::Streams(_)));
        group.stream_names = Arc::from(" account_updated account_closed ");
        assert!(matches!(ask(&group, &Vec::new()).await.unwrap(), Answer::Each(_)));
    }
}
