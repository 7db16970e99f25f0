//! The billing service owns payments: it takes the commands that record, change and delete them,
//! asks for a transfer when an order is confirmed, and for a receipt when a payment is recorded.

pub mod mails;
pub mod routes;

use chassis::config::{CommonArgs, HttpArgs, RedisArgs};
use chassis::{App, BoxError, Service};
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
    /// What every service has.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The event store.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The HTTP API.
    #[command(flatten)]
    pub http: HttpArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        Service::new("billing", self.common.clone()).with_http(self.http.clone())
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.redis).await;
    app.subscribe(&store, mails::subscription(app.consumer()), mails::Mails);
    app.serve(routes::routes(store));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
