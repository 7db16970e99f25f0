//! A ledger: transfers that never lose a cent however many run at once, and a fee that each of them
//! costs exactly once although a consumer crashes in the middle. Runs on the Redis at `REDIS_URL`.

use event_store::{
    CancellationToken, Config, EntityType, Event, EventStore, Kind, NewEvent, Outcome, Subscription, Typed,
    TypedEvent, TypedHandler, events,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize, Deserialize)]
struct Account {
    id: String,
    cents: i64,
}

impl EntityType for Account {
    type State = Self;
    const KIND: Kind = Kind::new("account");
    fn id(account: &Self) -> &str {
        &account.id
    }
}

events! { enum Chargeable { Sent(Account) = put "sent" } }
type Failed = Box<dyn std::error::Error + Send + Sync>;
type Events = Result<Vec<NewEvent>, Failed>;

/// Both accounts change or none, and only while nobody else has changed them.
async fn transfer(store: &EventStore, action: &'static str, ids: [&str; 2], cents: i64) -> Events {
    let mut a = store.load::<Account>(ids[0]).await?.ok_or("unknown sender")?;
    let mut b = store.load::<Account>(ids[1]).await?.ok_or("unknown receiver")?;
    (a.state.cents, b.state.cents) = (a.state.cents - cents, b.state.cents + cents);
    let taken = Account::put(action, &a.state).expect(a.expected());
    Ok(vec![taken, Account::put("received", &b.state).expect(b.expected())])
}

struct Fees(EventStore);

impl TypedHandler for Fees {
    type Event = Chargeable;
    async fn handle(&self, Chargeable::Sent(payer): Chargeable, _: &Event) -> Outcome {
        let bank = payer.id.replace("ada", "bank");
        let fee = transfer(&self.0, "charged", [&payer.id, &bank], 1).await;
        // Appended in one step with the acknowledgement; asked again when somebody was faster.
        fee.map_or_else(|error| Outcome::Retry(error.to_string()), Outcome::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let store = EventStore::connect(Config::new(url)).await?;
    let [ada, bob, bank] = ["ada", "bob", "bank"].map(|name| format!("{name}-{}", std::process::id()));
    for (id, cents) in [(&ada, 10_000), (&bob, 10_000), (&bank, 0)] {
        store.append(vec![Account::put("opened", &Account { id: id.clone(), cents })]).await?;
    }
    let [doomed, _other] = ["one", "two"].map(|consumer| {
        let fees = Subscription::new("fees", consumer).streams(Chargeable::streams());
        let consumer = store.subscribe(fees.claim_after(Duration::from_millis(500)));
        tokio::spawn(consumer.run(Typed(Fees(store.clone())), CancellationToken::new()))
    });
    let pay = async |_| loop {
        match store.append(transfer(&store, "sent", [&ada, &bob], 50).await?).await {
            Err(error) if error.is_conflict() => {} // Somebody was faster: look again.
            other => break other.map_err(Failed::from),
        }
    };
    futures_util::future::try_join_all((0..20).map(pay)).await?;
    doomed.abort();
    println!("20 transfers of 50 cents; one of the two consumers that charge for them crashed");
    let cents = async |id| store.load::<Account>(id).await.map(|a| a.map_or(0, |a| a.state.cents));
    while cents(&bank).await? < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (ada, bob, bank) = (cents(&ada).await?, cents(&bob).await?, cents(&bank).await?);
    println!("ada {ada}, bob {bob}, bank {bank}: together {}", ada + bob + bank);
    Ok(())
}
