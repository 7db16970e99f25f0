//! The commands that README.md gives for a cluster, on the sample shop that `make up` made.

use anyhow::Result;
use e2e::readme;

#[tokio::test]
async fn the_commands_of_the_readme_work_after_make_up() -> Result<()> {
    let xtask = std::env::var("ORDERSHOP_XTASK").unwrap_or_else(|_| "cargo xtask".to_owned());
    readme::run("cluster", &[("cargo xtask", &xtask)]).await
}
