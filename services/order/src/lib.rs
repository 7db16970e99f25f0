//! The order service owns orders: it takes the commands that place, change and delete them, turns
//! what inventory decides into their next state, and answers a caller with that outcome when it
//! comes in time.
//!
//! ```text
//! POST /order → order_created (pending) → … inventory … → inventory_reserved | inventory_rejected
//!      └─ waits on the log ──── order_updated (confirmed | rejected) ←─────────────┘
//! ```

pub mod decide;
pub mod outcomes;
pub mod routes;

use chassis::config::StoreApiArgs;
use chassis::{App, BoxError, Service, kinds};
use clap::Parser;
use outcomes::Outcomes;
use std::process::ExitCode;
use std::time::Duration;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ordershop-order",
    version,
    about = "The order service of OrderShop: owns orders and answers what became of them."
)]
pub struct Args {
    /// What a service with an API over the event store has.
    #[command(flatten)]
    pub base: StoreApiArgs,
    /// Milliseconds that a caller waits for the decision about an order before it is answered 202.
    ///
    /// Lower it when callers would rather look later; an order is decided all the same.
    #[arg(long, env = "ORDERSHOP_DECISION_WAIT_MS", default_value_t = 2_000, value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pub decision_wait_ms: u64,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        self.base.service("order")
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.base.redis, [kinds::ORDER]).await;
    let outcomes = Outcomes::default();
    app.spawn("outcomes", outcomes.clone().follow(store.clone(), app.cancelled()));
    outcomes.following().await;
    app.subscribe(&store, decide::subscription(app.consumer()), decide::Decide::new(store.clone()));
    app.serve(routes::routes(store, outcomes, Duration::from_millis(args.decision_wait_ms)));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
