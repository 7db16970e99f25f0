//! Whether every dependency has a licence that `deny.toml` allows and comes from a source it allows.
//!
//! `deny.toml` is cargo-deny's own file, so whoever has that tool runs `cargo deny check` and gets the
//! security advisories too. This check reads the two parts that need no network and no further program; it
//! says nothing about advisories.

use crate::{build, tools};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, ParseMode, expression::ExpressionReq};

/// How cargo marks what comes from a registry, in contrast to a repository or a folder. Only the public one is
/// configured here, so there is no other.
const REGISTRY: &str = "registry+";

/// The part of `deny.toml` that is read here.
#[derive(Deserialize)]
struct Policy {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// None for what lies in the workspace.
    source: Option<String>,
}

pub(super) fn check() -> Result<()> {
    let policy = tools::root().join("deny.toml");
    let policy =
        std::fs::read_to_string(&policy).with_context(|| format!("cannot read {}", policy.display()))?;
    let policy: Policy = toml::from_str(&policy).context("deny.toml")?;
    let output = build::cargo()?
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata's answer")?;
    let refused: Vec<_> = metadata.packages.iter().filter_map(|package| refusal(package, &policy)).collect();
    if !refused.is_empty() {
        bail!("{}", refused.join("\n     "));
    }
    eprintln!(
        "     {} packages; advisories are not looked at (`cargo deny check` does)",
        metadata.packages.len()
    );
    Ok(())
}

/// Why a package may not be used, if so.
fn refusal(package: &Package, policy: &Policy) -> Option<String> {
    let Package { name, version, license, source } = package;
    if let Some(source) = source
        && !source.starts_with(REGISTRY)
    {
        return Some(format!("{name} {version} comes from {source} and not from the public registry"));
    }
    let Some(license) = license else {
        return Some(format!("{name} {version} names no licence"));
    };
    match Expression::parse_mode(license, ParseMode::LAX) {
        Err(error) => Some(format!("{name} {version}: licence {license:?} is not understood: {error}")),
        Ok(expression) => {
            let failed = expression.evaluate_with_failures(|licence| allows(policy, licence)).err()?;
            Some(format!("{name} {version}: licence {license:?} is not allowed ({})", list(&failed)))
        }
    }
}

fn allows(policy: &Policy, licence: &LicenseReq) -> bool {
    policy.licenses.allow.iter().any(|allowed| *allowed == licence.to_string())
}

fn list(failed: &[&ExpressionReq]) -> String {
    failed.iter().map(|failed| failed.req.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "registry+https://index.example";

    fn refuse(license: Option<&str>, source: &str) -> Option<String> {
        let policy = Policy {
            licenses: Licenses {
                allow: ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(Into::into).into(),
            },
        };
        let package = Package {
            name: "x".into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            source: Some(source.into()),
        };
        refusal(&package, &policy)
    }

    #[test]
    fn one_allowed_licence_of_a_choice_is_enough() {
        assert_eq!(refuse(Some("MIT OR GPL-3.0-only"), PUBLIC), None);
        assert_eq!(refuse(Some("MIT/Apache-2.0"), PUBLIC), None, "the old way to write a choice");
        assert_eq!(refuse(Some("Apache-2.0 WITH LLVM-exception"), PUBLIC), None);
    }

    #[test]
    fn every_licence_of_a_combination_must_be_allowed() {
        assert!(refuse(Some("MIT AND GPL-3.0-only"), PUBLIC).unwrap().contains("GPL-3.0"));
        assert!(refuse(None, PUBLIC).is_some());
    }

    #[test]
    fn a_git_dependency_is_refused() {
        assert!(refuse(Some("MIT"), "git+https://git.example/x").is_some());
    }
}
