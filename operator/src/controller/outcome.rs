//! What became of applying: what is there, what waits, what was refused, and how that is called in conditions, events
//! and metrics. It decides nothing and writes nothing.

use kube::ResourceExt;

use super::{
    children::{Applied, Children},
    labels,
    plan::Gate,
    rollout::Rollout,
    trouble::Trouble,
};

/// What is there after applying.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The objects as the API server has them now; one that waits or was refused may be missing or old.
    pub children: Children<Applied>,
    /// What was not applied yet.
    pub held: Vec<Held>,
    /// What was refused.
    pub failures: Vec<ApplyError>,
    /// What keeps workloads from getting ready.
    pub troubles: Vec<Trouble>,
    /// Why the volume cannot grow.
    pub volume_refused: Option<String>,
    /// Shut while the passwords that the pods are to use could not be written: pods that name them would not start,
    /// and the next reconciliation makes others.
    pub(super) passwords: Gate,
}

impl Outcome {
    /// The components whose workload is there and not as it should be yet, each with the image it should run.
    #[must_use]
    pub fn incomplete(&self, shop: &str) -> Vec<(String, String)> {
        let Children { stateful_sets, deployments, .. } = &self.children;
        let sets = stateful_sets
            .iter()
            .map(|set| (set.name_any(), Rollout::from(set), set.spec.as_ref().map(|spec| &spec.template)));
        let deployments = deployments.iter().map(|deployment| {
            let template = deployment.spec.as_ref().map(|spec| &spec.template);
            (deployment.name_any(), Rollout::from(deployment), template)
        });
        sets.chain(deployments)
            .filter(|(_, rollout, _)| !rollout.is_complete())
            .filter_map(|(name, _, template)| {
                let image = template?.spec.as_ref()?.containers.first()?.image.clone()?;
                Some((labels::component(shop, &name).to_owned(), image))
            })
            .collect()
    }
}

/// An object that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// What for.
    pub reason: String,
}

/// An object could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused it.
    #[error("{kind} {name}: {source}")]
    Refused {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// What the API server said.
        source: kube::Error,
    },
    /// Somebody else's object has the name.
    #[error("{kind} {name} belongs to somebody else: delete or rename it, or rename the shop")]
    Foreign {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The cluster does not know the kind.
    #[error(
        "{kind} {name}: this cluster does not know the kind {kind}: install KEDA, or remove the service's autoscaling"
    )]
    NotInstalled {
        /// The kind.
        kind: String,
        /// The object's name.
        name: String,
    },
    /// It cannot be compared.
    #[error("an object cannot be written as JSON: {0}")]
    Serialize(#[from] serde_json::Error),
}

impl ApplyError {
    /// The variant, for conditions, events and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "ApplyRefused",
            Self::Foreign { .. } => "NameConflict",
            Self::NotInstalled { .. } => "KindNotInstalled",
            Self::Serialize(_) => "ApplySerialize",
        }
    }

    /// What the API server says when the class of a volume cannot make it grow.
    pub(super) fn growth_refused(&self) -> Option<String> {
        match self {
            Self::Refused { kind, source: kube::Error::Api(status), .. }
                if kind == "PersistentVolumeClaim"
                    && status.is_forbidden()
                    && status.message.contains("resize") =>
            {
                let said = status.message.rsplit("is forbidden: ").next();
                Some(said.unwrap_or(&status.message).to_owned())
            }
            _ => None,
        }
    }
}
