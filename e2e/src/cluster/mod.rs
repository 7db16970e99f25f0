//! An `OrderShop` in a namespace of its own, on whatever cluster the kubeconfig names.
//!
//! The operator must be there already. The namespace enforces Pod Security `restricted`; it goes away with
//! the test, and before that, when the test fails, everything that explains the failure is printed.

mod children;
mod diagnose;
mod exec;
mod gateway;
mod helm;
mod namespace;
mod node;
mod operator;
mod plugin;
mod proxy;
mod redis;
mod render;
mod sampler;
mod shop;
mod status;
mod traffic;
mod version;

pub use children::{Children, SERVICES};
pub use helm::{OPERATOR_NAMESPACE, RELEASE, Release, package};
pub use namespace::Namespace;
pub use node::Node;
pub use operator::{Memory, Operator, with_own_operators};
pub use plugin::{Ended, Plugin};
pub use proxy::Proxy;
pub use render::Rendered;
pub use sampler::Sampler;
pub use shop::{SHOP, Shop, order_shops};
pub use status::condition;
pub use traffic::{Counts, Traffic};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use kube::Client;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// From apply to Ready, on a slow and busy machine.
pub const READY_WITHIN: Duration = Duration::from_mins(4);
/// For what takes a second when all is well, and on a busy machine as long as pods take to start.
pub const SOON: Duration = Duration::from_mins(2);

/// Runs a test on a Ready shop in a new namespace whose name begins with `purpose`.
pub async fn with_shop(purpose: &str, test: impl AsyncFnOnce(&Shop) -> Result<()>) -> Result<()> {
    let client = client().await?;
    let namespace = Namespace::create(&client, purpose).await?;
    let outcome = on_ready_shop(&client, &namespace, test).await;
    let removed = namespace.remove().await;
    match outcome {
        Ok(outcome) => outcome.and(removed),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs a test on the shop that tests share: a Ready one with every default, made by the first that asks for it and
/// left there. It is for tests that only look, or that put back what they change; others may look at the same time,
/// and what earlier ones appended is there. The suite's program `shared` removes it.
pub async fn with_shared_shop(test: impl AsyncFnOnce(&Shop) -> Result<()>) -> Result<()> {
    let client = client().await?;
    let namespace = Namespace::shared(&client).await?;
    match on_ready_shop(&client, &namespace, test).await {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Applies a shop with every default, waits for it and runs the test. Says all there is to say when that fails.
async fn on_ready_shop(
    client: &Client,
    namespace: &Namespace,
    test: impl AsyncFnOnce(&Shop) -> Result<()>,
) -> std::thread::Result<Result<()>> {
    let shop = Shop::new(client.clone(), namespace.name());
    let whole = AssertUnwindSafe(async {
        shop.apply().await?;
        shop.ready(READY_WITHIN).await?;
        test(&shop).await
    });
    let outcome = whole.catch_unwind().await;
    if !matches!(outcome, Ok(Ok(()))) {
        diagnose::print(client, namespace.name()).await;
    }
    outcome
}

/// A client of the cluster that the kubeconfig names.
pub async fn client() -> Result<Client> {
    Client::try_default()
        .await
        .context("no cluster: KUBECONFIG must name one that has the operator (`make up` makes one)")
}
