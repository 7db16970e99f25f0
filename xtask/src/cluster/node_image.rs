//! The image of a node: pulled where a registry answers, else assembled from Debian's packages and Go modules.
//!
//! Which of the two is decided once and remembered in the cache. An assembled image is kept there compressed; it is
//! unpacked into the engine's storage only when it is missing there.

use super::engine::{Engine, require_root_for};
use crate::tools::{self, Run, ensure_debian, go};
use crate::{cache, step::step};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use walkdir::WalkDir;

/// What the assembly scripts call.
const PACKAGES: &[&str] = &["mmdebstrap", "catatonit", "busybox-static", "python3", "zstd", "util-linux"];
/// The repository of assembled images in the engine's storage.
const REPOSITORY: &str = "localhost/ordershop/node";
/// How long a registry may take to say that it has the image.
const REGISTRY_ANSWERS: Duration = Duration::from_secs(8);

/// The reference of a node image that the engine has.
pub(crate) fn ensure(engine: &Engine) -> Result<String> {
    let folder = cache::dir()?.join("node");
    fs::create_dir_all(&folder)?;
    let source = folder.join("source");
    if fs::read_to_string(&source).unwrap_or_default() != "assembled" {
        let published = published_reference()?;
        if engine.has_image(&published) {
            return Ok(published);
        }
        if pull(engine, &published)? {
            fs::write(&source, "pulled")?;
            return Ok(published);
        }
        fs::write(&source, "assembled")?;
    }
    assembled(engine, &folder)
}

/// Whether node images come from a registry, which then has Redis' image too.
pub(crate) fn is_pulled() -> Result<bool> {
    Ok(fs::read_to_string(cache::dir()?.join("node/source")).is_ok_and(|source| source == "pulled"))
}

/// The image that this version of kind was released with.
fn published_reference() -> Result<String> {
    let source = go::KIND.source()?.join("pkg/apis/config/defaults/image.go");
    let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    default_image(&text).context("kind's source names no default image")
}

/// `name:tag@digest` as a name that Docker and podman both take.
fn default_image(go_source: &str) -> Option<String> {
    let reference = go_source.split("const Image = \"").nth(1)?.split('"').next()?;
    let (name_and_tag, digest) = reference.split_once('@')?;
    let name = name_and_tag.split(':').next()?;
    Some(format!("docker.io/{name}@{digest}"))
}

fn pull(engine: &Engine, reference: &str) -> Result<bool> {
    let mut answers = false;
    step("ask the registry for kind's node image", || {
        answers = engine.command().args(["manifest", "inspect", reference]).succeeds_within(REGISTRY_ANSWERS);
        Ok(())
    })?;
    if !answers {
        eprintln!("     no registry answers: the node image is assembled here");
        return Ok(false);
    }
    Ok(step(&format!("pull {reference}"), || engine.command().args(["pull", "-q", reference]).run()).is_ok())
}

fn assembled(engine: &Engine, folder: &Path) -> Result<String> {
    let hash = inputs_hash()?;
    let reference = format!("{REPOSITORY}:{}", &hash[..12]);
    if engine.has_image(&reference) {
        return Ok(reference);
    }
    let archive = folder.join(format!("node-{}.tar.zst", &hash[..12]));
    if !archive.is_file() {
        assemble(folder, &archive)?;
    }
    ensure_debian(&["zstd"])?;
    step("unpack the node image", || import(engine, &archive, &reference))?;
    remove_others(engine, &reference);
    Ok(reference)
}

/// Everything that decides what an assembled image is: pins, scripts, build flags and Debian's release.
fn inputs_hash() -> Result<String> {
    let root = tools::root().join("deploy/kind");
    let mut hash = Sha256::new();
    for entry in WalkDir::new(&root).sort_by_file_name() {
        let entry = entry?;
        let name = entry.path().strip_prefix(&root)?;
        let is_input = !["helm", "keda"].iter().any(|other| name.starts_with(other))
            && name.extension().is_none_or(|extension| extension != "md");
        if entry.file_type().is_file() && is_input {
            hash.update(name.as_os_str().as_encoded_bytes());
            hash.update(fs::read(entry.path())?);
        }
    }
    for program in go::NODE {
        hash.update(program.stamp()?);
    }
    hash.update(tools::release()?.suite);
    Ok(go::hex(&hash.finalize()))
}

fn assemble(folder: &Path, archive: &Path) -> Result<()> {
    require_root_for("assembling the node image")?;
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the node image can be assembled on x86_64 only; elsewhere an image registry must be reachable"
        );
    }
    ensure_debian(PACKAGES)?;
    let mut programs = go::NODE.to_vec();
    programs.push(&go::KIND);
    go::ensure(&programs)?;

    let work = tools::scratch()?;
    let unfinished = folder.join("unfinished.tar.zst");
    let assembly = Assembly { work: work.clone(), out: unfinished.clone(), kind_source: go::KIND.source()? };
    step("node image: Debian's part", || assembly.script("rootfs.sh"))?;
    step("node image: images of the control plane", || assembly.script("images.sh"))?;
    step("node image: content store and compression", || assembly.script("node.sh"))?;
    fs::remove_dir_all(&work)?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "zst") && path != unfinished {
            fs::remove_file(path)?;
        }
    }
    fs::rename(unfinished, archive)?;
    Ok(())
}

struct Assembly {
    work: PathBuf,
    out: PathBuf,
    kind_source: PathBuf,
}

impl Assembly {
    /// Runs one stage of `deploy/kind`. A stage ends with this process, whatever ends that.
    fn script(&self, name: &str) -> Result<()> {
        let mut stage = Command::new("bash");
        stage
            .arg(tools::root().join("deploy/kind").join(name))
            .env("WORK", &self.work)
            .env("OUT", &self.out)
            .env("BIN", cache::dir()?.join("bin"))
            .env("KIND_SOURCE", &self.kind_source)
            .env("KUBERNETES_VERSION", go::kubernetes_version()?);
        tools::release()?.set_env(&mut stage);
        tools::bound_to_us(&stage).run()
    }
}

/// Turns the archive into an image of the engine, with the settings of kind's own node image.
fn import(engine: &Engine, archive: &Path, reference: &str) -> Result<()> {
    let mut unpack = Command::new("zstd").arg("-dcq").arg(archive).stdout(Stdio::piped()).spawn()?;
    let tar = unpack.stdout.take().context("zstd has no output")?;
    let result = engine
        .command()
        .arg("import")
        .args(["--change", r#"ENTRYPOINT ["/usr/local/bin/entrypoint-wrapper", "/sbin/init"]"#])
        .args(["--change", "ENV container=docker", "--change", "STOPSIGNAL SIGRTMIN+3"])
        .args(["-", reference])
        .stdin(tar)
        .run();
    let unpacked = unpack.wait()?;
    result?;
    if !unpacked.success() {
        // cut short: what was imported is not what was assembled
        engine.command().args(["rmi", "-f", reference]).succeeds();
        fs::remove_file(archive)?;
        bail!("{} is damaged and was removed: run this again", archive.display());
    }
    Ok(())
}

/// Frees the space of earlier node images; those in use stay.
fn remove_others(engine: &Engine, current: &str) {
    let listed =
        engine.command().args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).text().unwrap_or_default();
    for image in listed.lines().filter(|image| image.starts_with(REPOSITORY) && *image != current) {
        engine.command().args(["rmi", image]).succeeds();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pulled_image_is_named_by_its_digest() {
        let source = "package defaults\n\nconst Image = \"kindest/node:v1.2.3@sha256:abc\"\n";
        assert_eq!(default_image(source).as_deref(), Some("docker.io/kindest/node@sha256:abc"));
        assert_eq!(default_image("package defaults"), None);
    }
}
