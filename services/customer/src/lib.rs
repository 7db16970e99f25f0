//! The customer service owns customers: it takes the commands that make, replace and delete them. It
//! answers no query and reacts to no event.

use chassis::config::StoreApiArgs;
use chassis::{App, BoxError, Service, classic, events, kinds};
use clap::Parser;
use domain::{Customer, CustomerDraft};
use std::process::ExitCode;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(name = "ordershop-customer", version, about = "The customer service of OrderShop: owns customers.")]
pub struct Args {
    /// What a service with an API over the event store has.
    #[command(flatten)]
    pub base: StoreApiArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        self.base.service("customer")
    }
}

/// Customers as a resource of the HTTP API.
#[derive(Debug)]
pub struct Customers;

impl classic::Resource for Customers {
    type Draft = CustomerDraft;
    type Type = events::Customers;
    const LIST_PATH: &'static str = "/customers";

    fn entity(id: String, draft: CustomerDraft) -> Customer {
        draft.into_entity(id)
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.base.redis, [kinds::CUSTOMER]).await;
    app.serve(classic::routes::<Customers>(store));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
