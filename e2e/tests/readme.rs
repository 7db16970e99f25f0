//! The commands that README.md gives for a cluster, on the sample shop that `make up` made.

use anyhow::{Context, Result};
use e2e::demo::{run, xtask};
use e2e::readme;

#[tokio::test]
async fn the_commands_of_the_readme_work_after_make_up() -> Result<()> {
    // The port is another one where 8080 was taken.
    let status = run(xtask().args(["cluster", "status"])).await?;
    let url = status.split_whitespace().find(|word| word.starts_with("http://localhost:"));
    let url = url.context("`cluster status` names no URL: is there a cluster (`make up`)?")?;
    let xtask = std::env::var("ORDERSHOP_XTASK").unwrap_or_else(|_| "cargo xtask".to_owned());
    readme::run("cluster", &[("cargo xtask", &xtask), ("http://localhost:8080", url)]).await
}
