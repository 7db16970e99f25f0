//! A namespace for one test, and the one that some tests share.

use crate::deadline::eventually;
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::Duration;
use uuid::Uuid;

/// Pods have ten seconds to end, volumes some more.
const GONE_WITHIN: Duration = Duration::from_mins(3);

/// The shop that is shared lives here.
const SHARED: &str = "e2e-shared";
/// A name for the test's namespace instead of a new one each time: for an operator that watches it alone. Then
/// only one test can run at a time. The shared one's name is this with `-shared` behind it.
const FIXED: &str = "ORDERSHOP_E2E_NAMESPACE";

/// A namespace that admits restricted pods only.
pub struct Namespace {
    api: Api<Object>,
    name: String,
}

impl Namespace {
    /// A new one for one test.
    pub async fn create(client: &Client, purpose: &str) -> Result<Self> {
        let unique = Uuid::new_v4().simple().to_string();
        let name = fixed().unwrap_or_else(|| format!("e2e-{purpose}-{}", &unique[..8]));
        let namespace = Self { api: Api::all(client.clone()), name };
        namespace.make().await.context("cannot create a namespace")?;
        Ok(namespace)
    }

    /// The one that tests share, made by the first of them.
    pub async fn shared(client: &Client) -> Result<Self> {
        let name = fixed().map_or_else(|| SHARED.to_owned(), |name| format!("{name}-shared"));
        let namespace = Self { api: Api::all(client.clone()), name };
        eventually("the shared namespace", GONE_WITHIN, async || match namespace.make().await {
            Ok(()) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = namespace.api.get(&namespace.name).await?;
                ensure!(there.metadata.deletion_timestamp.is_none(), "it is about to go away");
                Ok(())
            }
            Err(error) => Err(error.into()),
        })
        .await?;
        Ok(namespace)
    }

    async fn make(&self) -> kube::Result<()> {
        let labels = [("pod-security.kubernetes.io/enforce", "restricted"), ("ordershop.dev/e2e", "true")];
        let object = Object {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            ..Object::default()
        };
        self.api.create(&PostParams::default(), &object).await.map(drop)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it and waits until it is gone, so that the next test finds the cluster free.
    pub async fn remove(self) -> Result<()> {
        self.api.delete(&self.name, &DeleteParams::default()).await?;
        eventually(&format!("namespace {} is gone", self.name), GONE_WITHIN, async || {
            match self.api.get_opt(&self.name).await? {
                None => Ok(()),
                Some(object) => bail!("{:?}", object.status),
            }
        })
        .await
    }
}

fn fixed() -> Option<String> {
    std::env::var(FIXED).ok().filter(|name| !name.is_empty())
}
