//! `cargo xtask keda`: KEDA on the local cluster, built from its Go module, for the test of scaling by lag.
//!
//! Its manifests are those of the module, with our images in them. Without its admission webhooks: nothing of a shop
//! needs them. Nothing here is part of what users deploy.

use crate::cluster::{self, Cluster, Engine};
use crate::step::step;
use crate::tools::{self, Run, go};
use anyhow::{Result, ensure};
use std::fs;

/// What KEDA consists of: the built program, its file in the image, and the image that the manifests name.
const PARTS: [(&go::Program, &str, &str); 2] = [
    (&go::KEDA_OPERATOR, "keda", "ghcr.io/kedacore/keda:main"),
    (&go::KEDA_ADAPTER, "keda-adapter", "ghcr.io/kedacore/keda-metrics-apiserver:main"),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(clap::Subcommand)]
enum Sub {
    /// Build KEDA, load it, and wait until it runs
    Up,
    /// Remove it and its kinds from the cluster
    Down,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let _lock = tools::lock()?;
    let cluster = cluster::running(cluster::DEFAULT_NAME)?;
    match args.command {
        Sub::Up => up(&cluster),
        Sub::Down => step("remove KEDA", || {
            with_manifests(&cluster, &["delete", "--ignore-not-found", "--timeout=180s"])
        }),
    }
}

fn up(cluster: &Cluster) -> Result<()> {
    go::ensure(&PARTS.map(|(program, ..)| program))?;
    let engine = cluster.engine()?;
    let present = cluster.images()?;
    for (program, file, _) in PARTS {
        let image = image(program, file)?;
        if !present.contains(&image) {
            step(&format!("image {image}"), || build_and_load(cluster, &engine, program, file, &image))?;
        }
    }
    step("KEDA", || {
        // Too large for an annotation of what was last applied.
        with_manifests(cluster, &["apply", "--server-side", "--force-conflicts"])?;
        let mut wait = cluster.kubectl()?;
        wait.args(["rollout", "status", "deployment", "--namespace", "keda", "--timeout=240s"]).run()?;
        let adapter = "apiservice/v1beta1.external.metrics.k8s.io";
        cluster.kubectl()?.args(["wait", "--for=condition=Available", adapter, "--timeout=120s"]).run()
    })
}

/// Does this by kubectl with all of KEDA's objects.
fn with_manifests(cluster: &Cluster, args: &[&str]) -> Result<()> {
    let scratch = tools::scratch()?;
    let file = scratch.join("keda.yaml");
    fs::write(&file, manifests(cluster)?)?;
    cluster.kubectl()?.args(args).arg("-f").arg(&file).run()?;
    Ok(fs::remove_dir_all(scratch)?)
}

/// The image of a part: another build is another tag.
fn image(program: &go::Program, file: &str) -> Result<String> {
    Ok(format!("localhost/ordershop/{file}:{}", &program.stamp()?[..12]))
}

fn build_and_load(
    cluster: &Cluster,
    engine: &Engine,
    program: &go::Program,
    file: &str,
    image: &str,
) -> Result<()> {
    let scratch = tools::scratch()?;
    fs::copy(program.path()?, scratch.join(file))?;
    let containerfile = format!("FROM scratch\nCOPY {file} /{file}\nUSER 65532:65532\n");
    fs::write(scratch.join("Containerfile"), containerfile)?;
    engine.command().args(["build", "-q", "-t", image]).arg(&scratch).run()?;
    let archive = scratch.join("image.tar");
    engine.command().args(["save", "-q", "-o"]).arg(&archive).arg(image).run()?;
    cluster.load(&archive)?;
    engine.command().args(["rmi", image]).run()?;
    Ok(fs::remove_dir_all(scratch)?)
}

fn manifests(cluster: &Cluster) -> Result<String> {
    let source = go::KEDA_OPERATOR.source()?;
    let text = cluster.kubectl()?.arg("kustomize").arg(source.join("config/minimal")).text()?;
    let images = PARTS.iter().map(|(program, file, theirs)| Ok((*theirs, image(program, file)?)));
    with_our_images(&text, &images.collect::<Result<Vec<_>>>()?)
}

/// Ours in place of theirs, taken as they lie on the node.
fn with_our_images(manifests: &str, images: &[(&str, String)]) -> Result<String> {
    const PULL: &str = "imagePullPolicy: Always";
    let mut text = manifests.to_owned();
    for (theirs, ours) in images {
        let line = format!("image: {theirs}\n");
        ensure!(text.contains(&line), "KEDA's manifests no longer name the image {theirs}");
        text = text.replace(&line, &format!("image: {ours}\n"));
    }
    Ok(text.replace(PULL, "imagePullPolicy: IfNotPresent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_ours_and_nothing_is_pulled() {
        let text = "image: a/keda:main\n  imagePullPolicy: Always\n";
        let ours = with_our_images(text, &[("a/keda:main", "localhost/keda:1".to_owned())]).unwrap();
        assert_eq!(ours, "image: localhost/keda:1\n  imagePullPolicy: IfNotPresent\n");
        let error = with_our_images(text, &[("a/adapter:main", String::new())]).unwrap_err();
        assert!(error.to_string().contains("a/adapter:main"), "{error}");
    }
}
