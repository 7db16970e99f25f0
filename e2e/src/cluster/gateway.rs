//! The way to a shop's gateway, whatever the type of its Service is, and to what its services tell of themselves.

use super::shop::Shop;
use crate::classic::{Client, Customer};
use crate::deadline::eventually;
use anyhow::Result;
use pod_forward::Forward;
use std::time::Duration;

const PORT: u16 = 5000;
const ADMIN_PORT: u16 = 9090;

impl Shop {
    /// A URL on this machine that leads to the gateway for as long as the shop lives.
    pub async fn url(&self) -> Result<String> {
        let say = |error| eprintln!("     {error}");
        let open = || Forward::open(self.objects(), Self::selector("gateway"), PORT, say);
        Ok(format!("http://{}", self.forward.get_or_try_init(open).await?.address()))
    }

    /// A client of the gateway.
    pub async fn client(&self) -> Result<Client> {
        Client::new(&self.url().await?)
    }

    /// Waits until the gateway answers a read.
    pub async fn answers(&self, within: Duration) -> Result<Client> {
        let client = self.client().await?;
        eventually("the gateway answers", within, async || {
            client.get::<Vec<Customer>>("/customers").await.map(drop)
        })
        .await?;
        Ok(client)
    }

    /// What a ready pod of a service tells Prometheus.
    pub async fn metrics(&self, service: &str) -> Result<String> {
        let say = |error| eprintln!("     {error}");
        let forward = Forward::open(self.objects(), Self::selector(service), ADMIN_PORT, say).await?;
        let answer = reqwest::get(format!("http://{}/metrics", forward.address())).await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// The label selector of a component's pods.
    #[must_use]
    pub fn selector(component: &str) -> String {
        format!("app.kubernetes.io/name=ordershop,app.kubernetes.io/component={component}")
    }
}
