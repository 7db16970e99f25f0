//! `make up` and `make down`: a Ready shop on a cluster from nothing, and nothing from that.

use crate::cache;
use crate::cluster::{self, Cluster};
use crate::images::{self, Refs};
use crate::step::step;
use crate::tools::{self, Run, go};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const OPERATOR_NAMESPACE: &str = "ordershop-system";
const SHOP: &str = "shop/shop";
/// From apply to Ready, on a slow machine.
const READY_LIMIT: Duration = Duration::from_mins(5);
/// Right after Ready a node port may refuse for a moment.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct UpArgs {
    /// Nodes besides the control plane, when the cluster is made
    #[arg(long)]
    workers: Option<usize>,
}

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct DownArgs {
    /// Remove the cache too: the next `up` builds everything again
    #[arg(long)]
    purge: bool,
}

/// Cluster, images, operator, sample; ends when the shop answers.
pub(crate) fn up(args: UpArgs) -> Result<()> {
    let start = Instant::now();
    let lock = tools::lock()?;
    cluster::ensure(cluster::DEFAULT_NAME, args.workers)?;
    go::ensure(&[&go::HELM])?;
    drop(lock);
    let programs = images::compile()?;
    let _lock = tools::lock()?;
    let cluster = cluster::running(cluster::DEFAULT_NAME)?;
    let refs = images::build_and_load(&cluster, &programs)?;
    step("operator (helm)", || install_operator(&cluster, &refs))?;
    let applied = Instant::now();
    step("apply the sample OrderShop", || apply_sample(&cluster))?;
    step("wait until the shop is Ready", || wait_for_ready(&cluster, &refs))?;
    let ready = applied.elapsed();
    let url = cluster.url();
    step(&format!("wait until {url}/report answers"), || wait_for_answer(cluster.port()))?;
    let record = serde_json::json!({"applyToReadySeconds": ready.as_secs_f64(), "totalSeconds": start.elapsed().as_secs_f64()});
    std::fs::write(cache::dir()?.join("last-up.json"), record.to_string())?;
    println!(
        "\nThe shop is Ready: {:.1} s after apply, {:.0} s in all.\n",
        ready.as_secs_f64(),
        start.elapsed().as_secs_f64()
    );
    println!("  shop        {url}");
    println!("  kubeconfig  {}\n", cluster.kubeconfig()?.display());
    println!("Next:");
    println!("  curl {url}/report");
    println!("  cargo xtask kubectl get shop");
    println!("  cargo xtask kubectl get pods");
    println!("  cargo xtask kubectl scale shop/shop --replicas=3     # scales crm");
    println!("  make down");
    Ok(())
}

/// Removes everything that `up` made on this machine.
pub(crate) fn down(args: DownArgs) -> Result<()> {
    let _lock = tools::lock()?;
    cluster::down_all()?;
    if args.purge {
        let dir = cache::dir()?;
        step(&format!("remove {}", dir.display()), || remove_cache(&dir))?;
    }
    Ok(())
}

/// Go keeps its modules write-protected, even against removal.
fn remove_cache(dir: &std::path::Path) -> Result<()> {
    std::process::Command::new("chmod").args(["-R", "u+w"]).arg(dir).run()?;
    Ok(std::fs::remove_dir_all(dir)?)
}

fn install_operator(cluster: &Cluster, refs: &Refs) -> Result<()> {
    let (repository, tag) = refs.operator.rsplit_once(':').context("the operator's image has no tag")?;
    let mut helm = cluster.helm()?;
    helm.args(["upgrade", "--install", "ordershop-operator"])
        .arg(tools::root().join("charts/ordershop-operator"))
        .args(["--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"])
        // a CRD that was applied by hand before becomes the chart's
        .arg("--take-ownership");
    for (key, value) in [
        ("image.repository", repository),
        ("image.tag", tag),
        ("operands.registry", &refs.registry),
        ("operands.version", &refs.version),
        ("operands.redisImage", &refs.redis_image),
    ] {
        helm.arg("--set-string").arg(format!("{key}={value}"));
    }
    helm.run()
}

fn apply_sample(cluster: &Cluster) -> Result<()> {
    cluster.kubectl()?.args(["apply", "-k"]).arg(tools::root().join("deploy/overlays/local")).run()
}

/// A shop that was Ready before stays so until its operator looks at it: the version tells the new state from the old.
fn wait_for_ready(cluster: &Cluster, refs: &Refs) -> Result<()> {
    let chosen = cluster.kubectl()?.args(["get", SHOP, "-o", "jsonpath={.spec.version}"]).text()?;
    let version = if chosen.is_empty() { &refs.version } else { &chosen };
    let timeout = format!("--timeout={}s", READY_LIMIT.as_secs());
    let wait = |what: &str| cluster.kubectl()?.args(["wait", &format!("--for={what}"), SHOP, &timeout]).run();
    let waited =
        wait(&format!("jsonpath={{.status.version}}={version}")).and_then(|()| wait("condition=Ready"));
    if let Err(error) = waited {
        let mut kubectl = cluster.kubectl()?;
        let pods = kubectl.args(["get", "shop,pods", "-A", "-o", "wide"]).text().unwrap_or_default();
        bail!("{error}\n{pods}\nlook further by `cargo xtask kubectl describe {SHOP}`");
    }
    Ok(())
}

fn wait_for_answer(port: u16) -> Result<()> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    let mut last = String::from("no answer");
    while Instant::now() < deadline {
        match get(port, "/report") {
            Ok(status) if status.contains(" 200 ") => return Ok(()),
            Ok(status) => last = status,
            Err(error) => last = error.to_string(),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    bail!("not within {} s: {last}", ANSWER_LIMIT.as_secs())
}

/// The status line of a GET on the loopback.
fn get(port: u16, path: &str) -> Result<String> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0_u8; 64];
    let length = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..length]);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
