//! Clients that never rest, and count: what they asked for and what was not answered as it should be.

use super::shop::Shop;
use crate::classic::Customer;
use crate::deadline::eventually;
use crate::redis::Cli as _;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use pod_forward::is_ready;
use reqwest::Client;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Each sends its next request this long after an answer: enough load to meet every moment, little enough for a
/// small machine.
const PAUSE: Duration = Duration::from_millis(20);
/// Clients that keep their connection, and as many that open a new one for each request.
const CLIENTS: usize = 2;

/// Traffic through the gateway's Service, so that Kubernetes chooses the pod as it does for everybody.
pub struct Traffic {
    clients: JoinSet<()>,
    done: Arc<AtomicBool>,
    counts: Arc<Mutex<Counts>>,
}

/// What the clients have seen.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// The names of the customers whose creation was answered.
    pub created: Vec<String>,
    /// Reads that were answered.
    pub reads: usize,
    /// What was answered with an error or not at all.
    pub lost: Vec<String>,
}

impl Shop {
    /// Where a gateway that is a `NodePort` answers from outside of the cluster.
    pub async fn node_url(&self) -> Result<String> {
        let service: Service = self.objects().get("shop-gateway").await?;
        let port = service.spec.and_then(|spec| spec.ports?.into_iter().next()?.node_port);
        let port = port.context("the gateway has no port on the nodes")?;
        let nodes = Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await?;
        let addresses = nodes.items.into_iter().filter_map(|node| node.status?.addresses).flatten();
        let internal = addresses.into_iter().find(|address| address.type_ == "InternalIP");
        Ok(format!("http://{}:{port}", internal.context("no node has an address")?.address))
    }

    /// Waits until these customers are there, no other ones, and each has had one mail.
    pub async fn welcomed_once(&self, names: &[String], within: Duration) -> Result<()> {
        let names: BTreeSet<_> = names.iter().cloned().collect();
        let gateway = self.answers(within).await?;
        eventually("every customer is there, and has one mail", within, async || {
            let listed: Vec<Customer> = gateway.get("/customers").await?;
            let listed: BTreeSet<_> = listed.into_iter().map(|customer| customer.name).collect();
            ensure!(listed == names, "{} of {} customers", listed.len(), names.len());
            let mails = self.sent_mails().await?;
            ensure!(mails.len() == names.len(), "{} mails for {} customers", mails.len(), names.len());
            Ok(())
        })
        .await
    }

    /// Begins traffic at this URL, once it answers.
    pub async fn traffic(&self, url: &str) -> Result<Traffic> {
        eventually("the gateway answers", super::SOON, async || {
            Ok(reqwest::get(format!("{url}/customers")).await?.error_for_status().map(drop)?)
        })
        .await?;
        let mut traffic = Traffic { clients: JoinSet::new(), done: Arc::default(), counts: Arc::default() };
        for client in 0..2 * CLIENTS {
            let (done, counts) = (Arc::clone(&traffic.done), Arc::clone(&traffic.counts));
            traffic.clients.spawn(run(url.to_owned(), client, done, counts));
        }
        Ok(traffic)
    }

    /// The pods of a service that take requests, by name.
    pub async fn ready_pods(&self, service: &str) -> Result<Vec<String>> {
        let pods: Vec<Pod> = self.pods(&Self::selector(service)).await?;
        Ok(pods.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect())
    }
}

impl Traffic {
    /// How much there was so far.
    #[must_use]
    pub fn so_far(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the clients finish what they have begun.
    pub async fn end(mut self) -> Result<Counts> {
        self.done.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client?;
        }
        Ok(self.so_far())
    }
}

async fn run(url: String, client: usize, done: Arc<AtomicBool>, counts: Arc<Mutex<Counts>>) {
    let kept = Client::new();
    let mut turn = 0_usize;
    while !done.load(Ordering::Relaxed) {
        turn += 1;
        let http = if client < CLIENTS { kept.clone() } else { Client::new() };
        let name = format!("Customer{client}x{turn}");
        let writes = turn.is_multiple_of(2);
        let outcome = if writes { create(&http, &url, &name).await } else { read(&http, &url).await };
        {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) if writes => counts.created.push(name),
                Ok(()) => counts.reads += 1,
                Err(error) => counts.lost.push(format!("{name}: {error:#}")),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn create(http: &Client, url: &str, name: &str) -> Result<()> {
    let email = format!("{}@server.com", name.to_lowercase());
    let answer = http.post(format!("{url}/customers")).json(&json!({"name": name, "email": email}));
    checked(answer.send().await?).await
}

async fn read(http: &Client, url: &str) -> Result<()> {
    checked(http.get(format!("{url}/orders")).send().await?).await
}

async fn checked(answer: reqwest::Response) -> Result<()> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{status} {text}");
    Ok(())
}
