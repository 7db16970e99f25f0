//! The first screen of the README, as a program. Runs on the Redis at `REDIS_URL`.

use event_store::{
    CancellationToken, Config, EntityType, Event, EventStore, Expected, Kind, Outcome, Subscription, Typed,
    TypedEvent, TypedHandler, Uuid, events,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Account {
    id: String,
    cents: i64,
}

impl EntityType for Account {
    type State = Self;
    const KIND: Kind = Kind::new("account"); // streams events:account_opened, events:account_credited

    fn id(account: &Self) -> &str {
        &account.id
    }
}

events! {
    enum AccountEvent {
        Opened(Account) = put "opened",
        Credited(Account) = put "credited",
    }
}

/// Gives every new account its first euro, once, whatever crashes.
struct Welcome {
    store: EventStore,
    done: CancellationToken,
}

impl TypedHandler for Welcome {
    type Event = AccountEvent;

    async fn handle(&self, event: AccountEvent, entry: &Event) -> Outcome {
        match event {
            AccountEvent::Opened(account) => {
                // The account as it is now: something may have happened to it since it was opened.
                let mut now = match self.store.load::<Account>(&account.id).await {
                    Ok(Some(now)) => now,
                    Ok(None) => return Outcome::Skip("closed again".to_owned()),
                    Err(error) => return Outcome::Retry(error.to_string()),
                };
                now.state.cents += 100;
                let expected = now.expected();
                // Appended, the position moved and the entry acknowledged in one step.
                Outcome::Done(vec![AccountEvent::Credited(now.state).write().expect(expected)])
            }
            AccountEvent::Credited(account) => {
                println!("{} has {} cents at version {}", account.id, account.cents, entry.version);
                self.done.cancel();
                Outcome::Done(Vec::new())
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let store = EventStore::connect(Config::new(url)).await?;

    let account = Account { id: format!("ada-{}", Uuid::new_v4()), cents: 0 };
    let opened = AccountEvent::Opened(account).write().expect(Expected::None);
    println!("appended {}", store.append(vec![opened]).await?[0].id);

    let done = CancellationToken::new();
    let subscription = Subscription::new("welcome", "consumer-1").streams(AccountEvent::streams());
    let welcome = Welcome { store: store.clone(), done: done.clone() };
    store.subscribe(subscription).run(Typed(welcome), done).await?;
    Ok(())
}
