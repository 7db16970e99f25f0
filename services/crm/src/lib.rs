//! The crm service keeps in touch with customers: it asks for a mail when a customer comes or
//! goes and when an order is confirmed. It owns nothing and has no HTTP API.

use chassis::config::{CommonArgs, RedisArgs};
use chassis::events::{self, Customers, Orders};
use chassis::{App, BoxError, Service, kinds};
use clap::Parser;
use domain::mail;
use event_store::{Event, Outcome, Subscription, TypedEvent, TypedHandler};
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

event_store::events! {
    /// What a customer may be written about.
    #[derive(Debug)]
    pub enum News {
        /// Somebody is a customer now.
        Came(Customers) = put "created",
        /// Somebody is one no more.
        Went(Customers) = remove "deleted",
        /// Something happened to an order.
        Ordered(Orders) = put "updated",
    }
}

/// The subscription of one consumer.
#[must_use]
pub fn subscription(consumer: &str) -> Subscription {
    events::subscription("crm", consumer).streams(News::streams())
}

/// Handles events of customers and orders.
#[derive(Debug)]
pub struct Correspondence;

impl TypedHandler for Correspondence {
    type Event = News;

    async fn handle(&self, news: News, entry: &Event) -> Outcome {
        events::asking_for(match news {
            News::Came(customer) => Some(mail::welcome(entry.event_id, &customer)),
            News::Went(customer) => Some(mail::goodbye(entry.event_id, &customer)),
            News::Ordered(order) => mail::thank_you(entry.event_id, &order),
        })
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.redis, [kinds::MAIL]).await;
    app.subscribe(&store, subscription(app.consumer()), Correspondence);
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
