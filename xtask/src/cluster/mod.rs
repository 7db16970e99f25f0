//! The local Kubernetes cluster: kind on Docker or podman, with everything of its own.
//!
//! Own name, network, podman configuration and kubeconfig: what the user has is never read or written.
//! `up` may be killed at any moment and run again: a cluster counts only when it was recorded as complete.

mod engine;
mod host;
mod kind;
mod node_image;
mod state;

pub(crate) use engine::Engine;
pub(crate) use node_image::is_pulled as pulls_images;

use state::State;

use crate::tools::{self, Run, go};
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The cluster of `make up` and of the tests.
pub(crate) const DEFAULT_NAME: &str = "ordershop";
/// The port of the node that the host's port leads to: the sample shop's gateway.
pub(crate) const NODE_PORT: u16 = 30080;

/// How long a stopped or restarted cluster may take until it serves again.
const REPAIR_LIMIT: Duration = Duration::from_secs(150);
/// How long a running cluster that does not answer is waited for before it is made anew.
const RECOVERY_LIMIT: Duration = Duration::from_mins(1);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(clap::Subcommand)]
enum Sub {
    /// Make the cluster, or repair it, and wait until it is ready
    Up {
        #[command(flatten)]
        name: Name,
        /// Nodes besides the control plane
        #[arg(long)]
        workers: Option<usize>,
    },
    /// Delete the cluster and all that it left on this machine; the cache stays
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Say what runs
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Load archives of images (docker save, podman save) into every node
    Load {
        #[command(flatten)]
        name: Name,
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Print the path of the cluster's kubeconfig
    Kubeconfig {
        #[command(flatten)]
        name: Name,
    },
}

#[derive(clap::Args)]
struct Name {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

/// `cargo xtask cluster …`
pub(crate) fn run(args: Args) -> Result<()> {
    match args.command {
        Sub::Up { name, workers } => {
            let _lock = tools::lock()?;
            let start = Instant::now();
            let cluster = ensure(&name.name, workers)?;
            println!("cluster {} is ready ({:.1} s)", cluster.name, start.elapsed().as_secs_f64());
            println!("  kubeconfig  {}", cluster.kubeconfig()?.display());
            println!("  node port   {NODE_PORT} is {}", cluster.url());
        }
        Sub::Down { name } => {
            let _lock = tools::lock()?;
            down(&name.name)?;
        }
        Sub::Status { name } => status(&name.name)?,
        Sub::Load { name, archives } => {
            let _lock = tools::lock()?;
            let cluster = running(&name.name)?;
            for archive in archives {
                step(&format!("load {}", archive.display()), || cluster.load(&archive))?;
            }
        }
        Sub::Kubeconfig { name } => println!("{}", kubeconfig_of(&name.name)?.display()),
    }
    Ok(())
}

/// A cluster that was recorded as complete.
pub(crate) struct Cluster {
    name: String,
    state: State,
}

impl Cluster {
    /// Where the node port answers on this machine.
    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}", self.state.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.state.port
    }

    pub(crate) fn kubeconfig(&self) -> Result<PathBuf> {
        kubeconfig_of(&self.name)
    }

    pub(crate) fn engine(&self) -> Result<Engine> {
        Engine::named(&self.state.engine)
    }

    /// A kubectl of this cluster.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        self.client(&go::KUBECTL)
    }

    /// A helm of this cluster.
    pub(crate) fn helm(&self) -> Result<Command> {
        self.client(&go::HELM)
    }

    fn client(&self, program: &go::Program) -> Result<Command> {
        let mut command = program.command()?;
        set_client_env(&mut command, &self.name)?;
        Ok(command)
    }

    /// Whether all its nodes answer and are Ready.
    fn is_healthy(&self) -> bool {
        let Ok(mut kubectl) = self.kubectl() else { return false };
        kubectl.args(["get", "nodes", "-o", "json", "--request-timeout=3s"]);
        kubectl.text().is_ok_and(|nodes| state::ready_nodes(&nodes) == Some(self.state.workers + 1))
    }

    fn becomes_healthy_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.is_healthy() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        false
    }

    /// Loads an archive of images into every node.
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        if !archive.is_file() {
            bail!("{} is not there", archive.display());
        }
        go::ensure(&[&go::KIND])?;
        let mut kind = kind::command(&self.engine()?, &self.name)?;
        kind.args(["load", "image-archive", "--name", &self.name]).arg(archive).run()
    }

    /// The names of the images that every node has.
    pub(crate) fn images(&self) -> Result<Vec<String>> {
        let engine = self.engine()?;
        let mut common: Option<Vec<String>> = None;
        for node in engine.containers(&self.name)? {
            let text = engine
                .command()
                .args(["exec", &node.name, "ctr", "-n", "k8s.io", "images", "ls", "-q"])
                .text()?;
            let images: Vec<String> = text.lines().map(str::to_owned).collect();
            common = Some(match common {
                None => images,
                Some(before) => before.into_iter().filter(|image| images.contains(image)).collect(),
            });
        }
        Ok(common.unwrap_or_default())
    }
}

/// Where the kubeconfig of `up`'s cluster lies; it need not exist yet.
pub(crate) fn kubeconfig() -> Result<PathBuf> {
    kubeconfig_of(DEFAULT_NAME)
}

/// Where a cluster's kubeconfig lies; it need not exist yet.
fn kubeconfig_of(name: &str) -> Result<PathBuf> {
    let file = if name == DEFAULT_NAME { "kubeconfig".to_owned() } else { format!("kubeconfig-{name}") };
    Ok(cache::dir()?.join(file))
}

/// The cluster's network. Firewall chains are named after it on the whole machine, so another cache needs another name.
fn network(name: &str) -> Result<String> {
    let cache = cache::dir()?;
    let hash = Sha256::digest(cache.as_os_str().as_encoded_bytes());
    Ok(format!("{name}-{}", &go::hex(&hash)[..6]))
}

/// kubectl and helm keep even their caches out of the user's home.
pub(crate) fn set_client_env(command: &mut Command, name: &str) -> Result<()> {
    let cache = cache::dir()?;
    // kubectl finds its plugins in PATH.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(cache.join("bin")).chain(std::env::split_paths(&path));
    command
        .env("PATH", std::env::join_paths(folders)?)
        .env("KUBECONFIG", kubeconfig_of(name)?)
        .env("KUBECACHEDIR", cache.join("clients/kubectl"))
        .env("HELM_CACHE_HOME", cache.join("clients/helm/cache"))
        .env("HELM_CONFIG_HOME", cache.join("clients/helm/config"))
        .env("HELM_DATA_HOME", cache.join("clients/helm/data"));
    Ok(())
}

/// The cluster, if it was made and answers.
pub(crate) fn running(name: &str) -> Result<Cluster> {
    let state = State::read(name)?.filter(|state| state.complete);
    let cluster = state.map(|state| Cluster { name: name.to_owned(), state });
    cluster
        .filter(Cluster::is_healthy)
        .with_context(|| format!("no cluster {name} answers: run `cargo xtask cluster up` first"))
}

/// Whether `make up`'s cluster was made, and not removed since.
pub(crate) fn exists() -> Result<bool> {
    Ok(State::read(DEFAULT_NAME)?.is_some_and(|state| state.complete))
}

/// The cluster: the running one, or repaired, or made anew. Call with the lock held.
pub(crate) fn ensure(name: &str, workers: Option<usize>) -> Result<Cluster> {
    check_name(name)?;
    if let Some(state) = State::read(name)?.filter(|state| state.complete) {
        if workers.is_some_and(|workers| workers != state.workers) {
            bail!(
                "cluster {name} exists with {} workers: `cargo xtask cluster down --name {name}` first, or take another --name",
                state.workers
            );
        }
        let cluster = Cluster { name: name.to_owned(), state };
        if go::KUBECTL.is_current()? && cluster.is_healthy() {
            return Ok(cluster);
        }
        go::ensure(&[&go::KIND, &go::KUBECTL])?;
        if repair(&cluster)? {
            return Ok(cluster);
        }
        eprintln!("  .. cluster {name} is broken: it is made anew");
    }
    create(name, workers.unwrap_or(0))
}

fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= 40
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_lowercase());
    if !valid {
        bail!("a cluster's name consists of lower-case letters, digits and dashes: {name:?}");
    }
    Ok(())
}

/// Starts what is stopped and waits; false when the cluster must be made anew.
fn repair(cluster: &Cluster) -> Result<bool> {
    let engine = Engine::detect_named(&cluster.state.engine)?;
    host::prepare()?;
    let nodes = engine.containers(&cluster.name)?;
    if nodes.len() != cluster.state.workers + 1 {
        return Ok(false);
    }
    let stopped: Vec<&str> =
        nodes.iter().filter(|node| !node.is_running()).map(|node| node.name.as_str()).collect();
    let limit = if stopped.is_empty() { RECOVERY_LIMIT } else { REPAIR_LIMIT };
    if !stopped.is_empty() {
        let started = step(&format!("start {}", stopped.join(", ")), || engine.start(&nodes));
        if started.is_err() {
            return Ok(false);
        }
    }
    if !kind::export_kubeconfig(&engine, &cluster.name) {
        return Ok(false);
    }
    let answer = step(&format!("wait until cluster {} answers", cluster.name), || {
        if cluster.becomes_healthy_within(limit) { Ok(()) } else { bail!("not within {} s", limit.as_secs()) }
    });
    Ok(answer.is_ok())
}

fn create(name: &str, workers: usize) -> Result<Cluster> {
    let engine = Engine::detect()?;
    host::prepare()?;
    delete_nodes(&engine, name)?;
    let port = state::free_port(State::read(name)?.map(|state| state.port), &host::forwarded_ports())?;
    let mut state =
        State { engine: engine.name().to_owned(), workers, port, complete: false, image: String::new() };
    state.write(name)?;
    go::ensure(&[&go::KIND, &go::KUBECTL])?;
    state.image = node_image::ensure(&engine)?;
    // Again, since that may have taken minutes: the last cluster of another cache may have gone meanwhile and
    // have left the machine as it was before, or a new one may have taken the port.
    host::prepare()?;
    state.port = state::free_port(Some(state.port), &host::forwarded_ports())?;
    state.write(name)?;
    engine.ensure_network(&network(name)?)?;
    step(&format!("kind create cluster {name} ({})", engine.name()), || {
        kind::create(&engine, name, &state, &kubeconfig_of(name)?)
    })?;
    state.complete = true;
    state.write(name)?;
    Ok(Cluster { name: name.to_owned(), state })
}

fn delete_nodes(engine: &Engine, name: &str) -> Result<()> {
    let nodes = engine.containers(name)?;
    if !nodes.is_empty() {
        step(&format!("delete the nodes of cluster {name}"), || engine.remove(&nodes))?;
    }
    let kubeconfig = kubeconfig_of(name)?;
    if kubeconfig.exists() {
        std::fs::remove_file(kubeconfig)?;
    }
    Ok(())
}

/// Deletes a cluster; after the last one the machine is as it was before. Call with the lock held.
pub(crate) fn down(name: &str) -> Result<()> {
    let state = State::read(name)?;
    let engine = match &state {
        Some(state) => Engine::named(&state.engine)?,
        None => Engine::podman()?,
    };
    if engine.is_usable() {
        delete_nodes(&engine, name)?;
        engine.remove_network(&network(name)?)?;
    }
    State::remove(name)?;
    if State::names()?.is_empty() {
        step("leave the machine as it was", || host::restore(&engine))?;
    }
    println!("cluster {name} is gone");
    Ok(())
}

/// Deletes every cluster of this cache.
pub(crate) fn down_all() -> Result<()> {
    let mut names = State::names()?;
    if names.is_empty() {
        names.push(DEFAULT_NAME.to_owned());
    }
    names.iter().try_for_each(|name| down(name))
}

fn status(name: &str) -> Result<()> {
    let Some(state) = State::read(name)? else {
        println!("cluster {name}: not made");
        return Ok(());
    };
    let complete = state.complete;
    let cluster = Cluster { name: name.to_owned(), state };
    let healthy = complete && go::KUBECTL.is_current()? && cluster.is_healthy();
    let word = match (complete, healthy) {
        (false, _) => "half-made: `cargo xtask cluster up` makes it anew",
        (true, true) => "ready",
        (true, false) => "not answering: `cargo xtask cluster up` repairs it",
    };
    println!("cluster {name}: {word}");
    println!("  engine      {}", cluster.state.engine);
    println!("  node image  {}", cluster.state.image);
    println!("  workers     {}", cluster.state.workers);
    println!("  kubeconfig  {}", cluster.kubeconfig()?.display());
    println!("  node port   {NODE_PORT} is {}", cluster.url());
    for node in cluster.engine()?.containers(name).unwrap_or_default() {
        println!("  node        {} ({})", node.name, node.state);
    }
    Ok(())
}
