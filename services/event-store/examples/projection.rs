//! A projection: accounts by balance, kept in Redis while the log grows, readable by anybody at any
//! time and never rebuilt for a read. Runs on the Redis at `REDIS_URL`.

use event_store::{
    CancellationToken, Config, EntityType, Event, EventStore, Kind, Projection, TypedEvent, Write, events,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Serialize, Deserialize)]
struct Account {
    id: String,
    cents: i32,
}

impl EntityType for Account {
    type State = Self;
    const KIND: Kind = Kind::new("account");
    fn id(account: &Self) -> &str {
        &account.id
    }
}

events! {
    enum AccountEvent {
        Opened(Account) = put "opened",
        Deposited(Account) = put "deposited",
        Closed(Account) = remove "closed",
    }
}

/// What an event changes. The version of the projection counts this function: give it a new one
/// whenever it writes something else, and the old one serves until the new one has caught up.
fn by_balance(event: &Event) -> Vec<Write> {
    let key = "by-balance".to_owned();
    match event.typed() {
        // A sorted set sorts ascending, so the richest comes first with a negative score.
        Ok(AccountEvent::Opened(Account { id, cents }) | AccountEvent::Deposited(Account { id, cents })) => {
            vec![Write::SortedAdd { key, member: id, score: -f64::from(cents) }]
        }
        Ok(AccountEvent::Closed(account)) => vec![Write::SortedRemove { key, member: account.id }],
        Err(_) => Vec::new(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let store = EventStore::connect(Config::new(url)).await?;
    let projector = store.project(Projection::new("accounts", 1).streams(AccountEvent::streams()));
    let (view, cancel) = (projector.view(), CancellationToken::new());
    let running = tokio::spawn(projector.run(by_balance, cancel.clone()));

    let run = std::process::id();
    let account = |(name, cents): (&str, i32)| Account { id: format!("{name}-{run}"), cents };
    let [ada, bob, eve] = [("ada", 500), ("bob", 900), ("eve", 700)].map(account);
    let opened = [&ada, &bob, &eve].map(|account| AccountEvent::Opened(account.clone()).write());
    store.append(opened.into()).await?;
    let rich = Account { cents: 1_000, ..ada };
    store.append(vec![AccountEvent::Deposited(rich).write(), AccountEvent::Closed(eve).write()]).await?;

    // Read your writes: wait until the projection has applied what was appended before this moment.
    view.wait_until(store.head().await?, Duration::from_secs(10)).await?;
    let mine = view.sorted_range("by-balance", 0, 1_000).await?;
    let mine: Vec<_> = mine.iter().filter(|id| id.ends_with(&format!("-{run}"))).collect();
    println!("the richest first: {mine:?}");

    cancel.cancel();
    running.await??;
    Ok(())
}
