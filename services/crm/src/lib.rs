//! The crm service keeps in touch with customers: it asks for a mail when a customer comes or
//! goes and when an order is confirmed. It owns nothing and has no HTTP API.

use chassis::config::{CommonArgs, RedisArgs};
use chassis::kinds::{CUSTOMER, ORDER};
use chassis::{App, BoxError, Service, events};
use clap::Parser;
use domain::{Mail, mail};
use event_store::{Event, Handler, Outcome, Subscription};
use std::process::ExitCode;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ordershop-crm",
    version,
    about = "The crm service of OrderShop: asks for the mails that customers get."
)]
pub struct Args {
    /// What every service has.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The event store.
    #[command(flatten)]
    pub redis: RedisArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        Service::new("crm", self.common.clone())
    }
}

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("crm", consumer).streams([
        CUSTOMER.stream("created"),
        CUSTOMER.stream("deleted"),
        ORDER.stream("updated"),
    ])
}

/// Handles events of customers and orders.
#[derive(Debug)]
pub struct Correspondence;

impl Handler for Correspondence {
    async fn handle(&self, event: &Event) -> Outcome {
        events::asking_for(due(event))
    }
}

fn due(event: &Event) -> Result<Option<Mail>, Outcome> {
    Ok(match (event.entity_type.as_str(), event.action()) {
        ("customer", "created") => Some(mail::welcome(event.event_id, &events::decode(event)?)),
        ("customer", "deleted") => Some(mail::goodbye(event.event_id, &events::decode(event)?)),
        ("order", "updated") => mail::thank_you(event.event_id, &events::decode(event)?),
        _ => None,
    })
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.redis).await;
    app.subscribe(&store, subscription(app.consumer()), Correspondence);
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
