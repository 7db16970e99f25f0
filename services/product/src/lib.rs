//! The product service owns products: it takes the commands that make, replace and delete them. It
//! answers no query and reacts to no event.

use chassis::config::StoreApiArgs;
use chassis::{App, BoxError, Service, classic, events, kinds};
use clap::Parser;
use domain::{Product, ProductDraft};
use std::process::ExitCode;

/// Configuration of the service.
#[derive(Clone, Debug, Parser)]
#[command(name = "ordershop-product", version, about = "The product service of OrderShop: owns products.")]
pub struct Args {
    /// What a service with an API over the event store has.
    #[command(flatten)]
    pub base: StoreApiArgs,
}

impl Args {
    /// The service, not started.
    pub fn service(&self) -> Service {
        self.base.service("product")
    }
}

/// Products as a resource of the HTTP API.
#[derive(Debug)]
pub struct Products;

impl classic::Resource for Products {
    type Draft = ProductDraft;
    type Type = events::Products;
    const LIST_PATH: &'static str = "/products";

    fn entity(id: String, draft: ProductDraft) -> Product {
        draft.into_entity(id)
    }
}

/// Sets the service up.
pub async fn setup(app: App, args: Args) -> Result<(), BoxError> {
    let store = app.connect(&args.base.redis, [kinds::PRODUCT]).await;
    app.serve(classic::routes::<Products>(store));
    Ok(())
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    args.service().run(move |app| setup(app, args))
}
