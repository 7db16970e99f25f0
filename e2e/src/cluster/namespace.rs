//! A namespace for one test.

use crate::deadline::eventually;
use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Pods have ten seconds to end, volumes some more.
const GONE_WITHIN: Duration = Duration::from_mins(3);

/// A namespace that admits restricted pods only.
pub struct Namespace {
    api: Api<Object>,
    name: String,
}

impl Namespace {
    /// A new one with a unique name.
    pub async fn create(client: &Client, purpose: &str) -> Result<Self> {
        let unique = Uuid::new_v4().simple().to_string();
        let name = format!("e2e-{purpose}-{}", &unique[..8]);
        let object = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "labels": {
                    "pod-security.kubernetes.io/enforce": "restricted",
                    "ordershop.dev/e2e": "true",
                },
            },
        }))?;
        let api: Api<Object> = Api::all(client.clone());
        api.create(&PostParams::default(), &object).await.context("cannot create a namespace")?;
        Ok(Self { api, name })
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
