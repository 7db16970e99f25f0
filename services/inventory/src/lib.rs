//! The inventory service owns the stock: it takes the commands that make, replace and delete
//! inventories, and it alone decides what orders hold of them.
//!
//! ```text
//! order_created, order_updated, order_deleted → decide → inventory_updated …
//!                                                        + inventory_reserved | inventory_rejected
//! ```

pub mod reserve;

use axum::Router;
use chassis::config::StoreApiArgs;
use chassis::{App, BoxError, Service, classic, events, kinds};
use clap::Parser;
use domain::{Inventory, InventoryDraft};
use event_store::EventStore;
use std::process::ExitCode;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ordershop-inventory",
    version,
    about = "The inventory service of OrderShop: owns the stock and decides what orders hold of it."
)]
pub struct Args {
    /// What a service with an API over the event store has.
    #[command(flatten)]
    pub base: StoreApiArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        self.base.service("inventory")
    }
}

/// Inventories as a resource of the HTTP API.
#[derive(Debug)]
pub struct Inventories;

impl classic::Resource for Inventories {
    type Draft = InventoryDraft;
    type Type = events::Inventories;
    const LIST_PATH: &'static str = "/inventory";

    fn entity(id: String, draft: InventoryDraft) -> Inventory {
        draft.into_entity(id)
    }
}

/// The commands.
pub fn routes(store: EventStore) -> Router {
    classic::routes::<Inventories>(store)
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.base.redis, [kinds::INVENTORY, kinds::RESERVATION]).await;
    app.subscribe(&store, reserve::subscription(app.consumer()), reserve::Reserve::new(store.clone()));
    app.serve(routes(store));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
