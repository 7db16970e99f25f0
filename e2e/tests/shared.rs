//! The end of the shop that tests shared.

use anyhow::Result;
use e2e::cluster::{Namespace, client, with_shared_shop};

#[tokio::test]
async fn a_namespace_with_a_ready_shop_in_it_goes_away_at_one_command() -> Result<()> {
    with_shared_shop(async |_| Ok(())).await?;
    Namespace::shared(&client().await?).await?.remove().await
}
