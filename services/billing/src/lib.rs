//! The billing service owns payments: it takes the commands that record, change and delete them,
//! asks for a transfer when an order is confirmed, and for a receipt when a payment is recorded.

pub mod mails;
pub mod routes;

use chassis::config::StoreApiArgs;
use chassis::{App, BoxError, Service, kinds};
use clap::Parser;
use std::process::ExitCode;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ordershop-billing",
    version,
    about = "The billing service of OrderShop: owns payments and asks for transfers and receipts."
)]
pub struct Args {
    /// What a service with an API over the event store has.
    #[command(flatten)]
    pub base: StoreApiArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        self.base.service("billing")
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.base.redis, [kinds::BILLING, kinds::MAIL]).await;
    app.subscribe(&store, mails::subscription(app.consumer()), mails::Mails);
    app.serve(routes::routes(store));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
