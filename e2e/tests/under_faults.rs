//! The shop on a cluster under the faults that only a cluster has; `cargo xtask faults --cluster` does it for longer.

use anyhow::{Result, ensure};
use e2e::faults::run;
use faults::run::Settings;
use faults::schedule::on_cluster;
use std::time::Duration;

#[tokio::test]
#[ignore = "full: a minute and a half of load and faults, and the time to come to rest"]
async fn a_shop_whose_pods_operator_and_images_fail_under_load_loses_nothing() -> Result<()> {
    let (seed, length) = (1, Duration::from_secs(90));
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        folder: folder.path().to_owned(),
        seed,
        length,
        clients: 4,
        // No kubelet is stopped: others may use the node.
        schedule: on_cluster(seed, length, Duration::from_secs(15), false),
    };
    let (report, _) = Box::pin(run(&settings, None)).await?;
    println!("{}", report.text(false));
    ensure!(report.is_clean(), "{}", report.text(true));
    Ok(())
}
