//! The container images: one static build of the workspace, one image per service and one for the operator, and Redis.
//!
//! The tag is a hash over the programs, so that a changed build rolls in a cluster and an unchanged one is neither
//! built into an image nor loaded again.

use crate::cluster::{self, Cluster, Engine};
use crate::demo::plan::SERVICES;
use crate::tools::{self, Run, ensure_debian, go};
use crate::{build, cache, step::step};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What runs in the cluster: nine services and the operator.
fn deployed() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain(["operator"])
}

const REGISTRY: &str = "localhost/ordershop";
/// Taken where images can be pulled.
const PUBLISHED_REDIS: &str = "docker.io/library/redis:7.2";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Load them into the local cluster, unless it has them already
    #[arg(long)]
    load: bool,
    /// Print the names of the images that were built last, as JSON
    #[arg(long)]
    print: bool,
    /// The cluster to load into
    #[arg(long, default_value = cluster::DEFAULT_NAME)]
    name: String,
}

/// The names of a set of images that belong together.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refs {
    pub(crate) registry: String,
    pub(crate) version: String,
    pub(crate) redis_image: String,
    pub(crate) operator: String,
}

impl Refs {
    fn of(version: String, redis_image: String) -> Self {
        let operator = format!("{REGISTRY}/ordershop-operator:{version}");
        Self { registry: REGISTRY.to_owned(), version, redis_image, operator }
    }

    fn image(&self, program: &str) -> String {
        format!("{}/ordershop-{program}:{}", self.registry, self.version)
    }

    /// All images that a cluster must be given.
    fn all(&self) -> Vec<String> {
        let mut images: Vec<String> = deployed().map(|program| self.image(program)).collect();
        if self.redis_image.starts_with(REGISTRY) {
            images.push(self.redis_image.clone());
        }
        images
    }
}

/// `cargo xtask images`
pub(crate) fn run(args: Args) -> Result<()> {
    let Args { load, print, name } = args;
    if load || !print {
        // Cargo has a lock of its own, and the cluster is free meanwhile.
        let programs = compile()?;
        let _lock = tools::lock()?;
        if load {
            build_and_load(&cluster::running(&name)?, &programs)?;
        } else {
            make(&Engine::detect()?, &programs, &[])?;
        }
    }
    if print {
        println!("{}", serde_json::to_string(&refs()?)?);
    }
    Ok(())
}

/// The images that were built last.
pub(crate) fn refs() -> Result<Refs> {
    let text = fs::read(folder()?.join("refs.json"))
        .context("no images were built yet: run `cargo xtask images --load` first")?;
    Ok(serde_json::from_slice(&text)?)
}

/// Makes images of what changed and loads those that the cluster does not have. Call with the lock held.
pub(crate) fn build_and_load(cluster: &Cluster, programs: &Path) -> Result<Refs> {
    let engine = cluster.engine()?;
    let present = cluster.images()?;
    let refs = make(&engine, programs, &present)?;
    let missing: Vec<String> = refs.all().into_iter().filter(|image| !present.contains(image)).collect();
    if missing.is_empty() {
        eprintln!("  ok the cluster has images {} already", refs.version);
        return Ok(refs);
    }
    step(&format!("load {} images", missing.len()), || load(cluster, &engine, &missing))?;
    Ok(refs)
}

/// Images that are in `present` already are not built again.
fn make(engine: &Engine, programs: &Path, present: &[String]) -> Result<Refs> {
    let refs = Refs::of(version(programs)?, redis_reference()?);
    let wanted: Vec<String> = refs.all().into_iter().filter(|image| !present.contains(image)).collect();
    let absent = wanted.iter().any(|image| !engine.has_image(image));
    if absent {
        let scratch = tools::scratch()?;
        step(&format!("images {}", refs.version), || {
            build_programs(engine, &refs, programs, &scratch.join("programs"))
        })?;
        if refs.redis_image.starts_with(REGISTRY) && !engine.has_image(&refs.redis_image) {
            step(&format!("image {}", refs.redis_image), || build_redis(engine, &refs))?;
        }
        fs::remove_dir_all(scratch)?;
        remove_others(engine, &refs);
        print_sizes(engine, &refs);
    }
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    let unfinished = folder.join("refs.tmp");
    fs::write(&unfinished, serde_json::to_vec_pretty(&refs)?)?;
    fs::rename(unfinished, folder.join("refs.json"))?;
    Ok(refs)
}

fn folder() -> Result<PathBuf> {
    Ok(cache::dir()?.join("images"))
}

/// Builds the programs that the images hold; the folder of them.
pub(crate) fn compile() -> Result<PathBuf> {
    step("build the nine services", build::services)?;
    step("build the operator", build::operator)
}

fn version(programs: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(fs::read(containerfile())?);
    for program in deployed() {
        let file = programs.join(format!("ordershop-{program}"));
        hash.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(format!("{}-{}", env!("CARGO_PKG_VERSION"), &go::hex(&hash.finalize())[..12]))
}

fn containerfile() -> PathBuf {
    tools::root().join("deploy/Containerfile")
}

fn build_programs(engine: &Engine, refs: &Refs, programs: &Path, context: &Path) -> Result<()> {
    fs::create_dir_all(context)?;
    for program in deployed() {
        let file = format!("ordershop-{program}");
        fs::copy(programs.join(&file), context.join(&file))?;
    }
    deployed().try_for_each(|program| {
        engine
            .command()
            .args(["build", "-q", "--target", program, "-t", &refs.image(program), "-f"])
            .arg(containerfile())
            .arg(context)
            .run()
    })
}

/// Redis' image: pulled by the cluster where it can, else assembled; then the tag is its version and a hash of how
/// it is made, so that a changed recipe is a changed image.
fn redis_reference() -> Result<String> {
    if cluster::pulls_images()? {
        return Ok(PUBLISHED_REDIS.to_owned());
    }
    let record = folder()?.join(format!("redis-{}", redis_recipe()?));
    if let Ok(version) = fs::read_to_string(&record) {
        return Ok(redis_image(&version, &redis_recipe()?));
    }
    ensure_debian(&["mmdebstrap"])?;
    let files = folder()?.join("redis");
    if files.exists() {
        fs::remove_dir_all(&files)?;
    }
    fs::create_dir_all(&files)?;
    step("Redis from Debian's package", || {
        let mut build = Command::new("bash");
        build.arg(redis_folder().join("build.sh")).env("OUT", &files);
        tools::release()?.set_env(&mut build);
        build.run()
    })?;
    let version = fs::read_to_string(files.join("version"))?.trim().to_owned();
    fs::write(record, &version)?;
    Ok(redis_image(&version, &redis_recipe()?))
}

fn redis_image(version: &str, recipe: &str) -> String {
    format!("{REGISTRY}/ordershop-redis:{version}-{recipe}")
}

fn redis_folder() -> PathBuf {
    tools::root().join("deploy/redis-image")
}

fn redis_recipe() -> Result<String> {
    let mut hash = Sha256::new();
    for file in ["build.sh", "Containerfile"] {
        hash.update(fs::read(redis_folder().join(file))?);
    }
    Ok(go::hex(&hash.finalize())[..8].to_owned())
}

fn build_redis(engine: &Engine, refs: &Refs) -> Result<()> {
    engine
        .command()
        .args(["build", "-q", "-t", &refs.redis_image, "-f"])
        .arg(redis_folder().join("Containerfile"))
        .arg(folder()?.join("redis"))
        .run()
}

/// One archive for all: a load costs half a second, however many images it has.
fn load(cluster: &Cluster, engine: &Engine, images: &[String]) -> Result<()> {
    let scratch = tools::scratch()?;
    let archive = scratch.join("images.tar");
    let mut save = engine.command();
    save.args(["save", "-q", "-o"]).arg(&archive);
    if engine.is_podman() {
        save.arg("-m");
    }
    save.args(images).run()?;
    cluster.load(&archive)?;
    fs::remove_dir_all(scratch)?;
    Ok(())
}

/// Frees the space of earlier builds in the engine; the cluster's nodes collect theirs themselves.
fn remove_others(engine: &Engine, refs: &Refs) {
    let listed =
        engine.command().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).text().unwrap_or_default();
    let current = refs.all();
    let ours = format!("{REGISTRY}/ordershop-");
    for image in
        listed.lines().filter(|image| image.starts_with(&ours) && !current.iter().any(|c| c == image))
    {
        engine.command().args(["rmi", image]).succeeds();
    }
}

fn print_sizes(engine: &Engine, refs: &Refs) {
    for image in refs.all() {
        let size = engine.command().args(["image", "inspect", "-f", "{{.Size}}", &image]).text();
        if let Some(bytes) = size.ok().and_then(|text| text.parse::<u32>().ok()) {
            eprintln!("     {:>5.1} MB  {image}", f64::from(bytes) / 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_stage_in_the_containerfile() {
        let text = fs::read_to_string(containerfile()).unwrap();
        for program in deployed() {
            assert!(
                text.contains(&format!("FROM base AS {program}\nCOPY ordershop-{program} /\n")),
                "{program}"
            );
        }
    }

    #[test]
    fn a_published_redis_is_not_loaded() {
        let refs = Refs::of("0.1.0-abc".into(), PUBLISHED_REDIS.into());
        assert_eq!(refs.all().len(), deployed().count());
        assert_eq!(
            Refs::of("0.1.0-abc".into(), redis_image("7.0.15", "12345678")).all().len(),
            deployed().count() + 1
        );
    }

    #[test]
    fn the_names_are_printed_as_the_tests_read_them() {
        let text = serde_json::to_value(Refs::of("1-a".into(), "r".into())).unwrap();
        assert_eq!(text["redisImage"], "r");
        assert_eq!(text["operator"], "localhost/ordershop/ordershop-operator:1-a");
    }
}
