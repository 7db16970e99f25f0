//! A projection in a database of its own, here a file that is replaced in one step: balances, and the position of the
//! last event in them. The position is registered with the store, so that a trim keeps what is yet to be read. Runs on
//! the Redis at `REDIS_URL`, with the database at `DATABASE`; run it again and it continues.

use event_store::{Config, EntityType, EventStore, Id, Kind, TypedEvent, events};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    }
}

/// What one transaction writes: never a balance without the position that it belongs to.
#[derive(Default, Serialize, Deserialize)]
struct Balances {
    position: String,
    cents: BTreeMap<String, i32>,
}

impl Balances {
    fn read(file: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        if file.exists() { Ok(serde_json::from_slice(&std::fs::read(file)?)?) } else { Ok(Self::default()) }
    }

    fn write(&self, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let new = file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(new, file)?)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let file: PathBuf = std::env::var("DATABASE").unwrap_or_else(|_| "balances.json".into()).into();
    let store = EventStore::connect(Config::new(url)).await?;
    let mut balances = Balances::read(&file)?;
    let after = if balances.position.is_empty() { Id::ZERO } else { balances.position.parse()? };

    // Before anything is read: from here on a trim keeps what comes after it.
    let position = store.position("example-balances", AccountEvent::streams());
    position.register(after).await?;

    let ada = Account { id: "ada".into(), cents: balances.cents.get("ada").unwrap_or(&0) + 100 };
    let written = store.append(vec![AccountEvent::Deposited(ada).write()]).await?[0].id;

    let mut tail = store.tail(AccountEvent::streams(), after);
    while tail.position() < written {
        for event in tail.next().await? {
            let (AccountEvent::Opened(account) | AccountEvent::Deposited(account)) = event.typed()?;
            balances.cents.insert(account.id, account.cents);
        }
        balances.position = tail.position().to_string();
        balances.write(&file)?;
        // Only now: killed before it, the next start registers the position of the database.
        position.commit(tail.position()).await?;
    }
    println!("balances at {}: {:?}", balances.position, balances.cents);
    Ok(())
}
