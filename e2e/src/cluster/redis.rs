//! redis-cli in the pod of a shop's Redis. There it is the reader: what it may not, the shop's Secret allows.

use super::exec::exec;
use super::shop::{SHOP, Shop};
use crate::redis::Cli;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;

/// The pod of the `StatefulSet`.
pub(super) const REDIS_POD: &str = "shop-redis-0";

impl Cli for Shop {
    async fn run(&self, args: &[&str]) -> Result<String> {
        let command: Vec<_> = ["redis-cli", "--user", "reader"].iter().chain(args).copied().collect();
        exec(&self.objects(), REDIS_POD, "redis", command).await
    }
}

impl Shop {
    /// A command of Redis as one of its users: a service, or `admin`, who may everything.
    pub async fn redis_as(&self, user: &str, args: &[&str]) -> Result<String> {
        let password = self.redis_password(user).await?;
        let as_user = ["redis-cli", "--user", user, "--pass", &password, "--no-auth-warning"];
        let command: Vec<_> = as_user.iter().chain(args).copied().collect();
        exec(&self.objects(), REDIS_POD, "redis", command).await
    }

    /// The newest password of a user.
    pub async fn redis_password(&self, user: &str) -> Result<String> {
        let secret = self.objects::<Secret>().get(&format!("{SHOP}-redis")).await?;
        let annotations = secret.metadata.annotations.unwrap_or_default();
        let edition =
            annotations.get("ordershop.dev/redis-passwords").context("the Secret names no edition")?;
        let url = secret.data.and_then(|mut data| data.remove(&format!("{user}.{edition}")));
        let url = String::from_utf8(url.with_context(|| format!("no URL of {user}"))?.0)?;
        let password = url.strip_prefix(&format!("redis://{user}:")).and_then(|rest| rest.split_once('@'));
        Ok(password.with_context(|| format!("the URL of {user} has no password"))?.0.to_owned())
    }
}
