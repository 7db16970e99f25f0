//! `ordershop-operator check`: whether the operator is installed so that it can work, seen with its own rights.
//!
//! `helm test` runs it in a pod of the operator's own ServiceAccount. It writes nothing.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::time::{Instant, sleep};

use crate::{
    controller::scope::{Part, Scope},
    crd::OrderShop,
    lease,
};

/// How often it is looked again.
const PERIOD: Duration = Duration::from_secs(1);

/// What is looked at.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The namespaces whose shops the operator looks after. Default: all of them.
    #[arg(long, env = "ORDERSHOP_WATCH_NAMESPACE", value_delimiter = ',')]
    pub watch_namespace: Vec<String>,

    /// The namespace of the Lease by which replicas agree on who writes. Default: as for `run`.
    #[arg(long, env = "ORDERSHOP_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// How many seconds it may take until all is well.
    #[arg(long, default_value_t = 60)]
    pub within: u64,
}

/// The operator cannot work.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No API server is configured.
    #[error("no Kubernetes to talk to: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The API server's configuration is of no use.
    #[error("the connection to Kubernetes: {0}")]
    Client(#[source] kube::Error),
    /// Shops cannot be read.
    #[error("OrderShops {scope} cannot be read: {source}")]
    Shops {
        /// Where.
        scope: Part,
        /// What the API server said.
        source: kube::Error,
    },
    /// The Lease cannot be read.
    #[error("the Lease {name} cannot be read: {0}", name = lease::NAME)]
    Lease(#[source] kube::Error),
    /// Nobody leads.
    #[error("no replica leads: the Lease {name} is {0}", name = lease::NAME)]
    NobodyLeads(&'static str),
}

/// Looks until all is well, and says on stdout what was found.
pub async fn run(options: Options) -> Result<(), CheckError> {
    let client = Client::try_from(kube::Config::infer().await?).map_err(CheckError::Client)?;
    let deadline = Instant::now() + Duration::from_secs(options.within);
    let scope = Scope::of(&options.watch_namespace);
    for part in scope.parts() {
        let shops = until(deadline, PERIOD, async || shops(&client, &part).await).await?;
        println!("ok: OrderShops {part} can be read, there are {shops}");
    }
    let leases: Api<Lease> = match options.lease_namespace.as_deref().or(scope.lease_namespace()) {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::default_namespaced(client),
    };
    let first = leases.get_opt(lease::NAME).await.map_err(CheckError::Lease)?;
    let leader = until(deadline, PERIOD, async || {
        let now = leases.get_opt(lease::NAME).await.map_err(CheckError::Lease)?;
        leader(first.as_ref(), now.as_ref()).map_err(CheckError::NobodyLeads)
    })
    .await?;
    println!("ok: {leader} leads");
    Ok(())
}

/// How many shops there are; their number is no part of the check, being able to count them is.
async fn shops(client: &Client, part: &Part) -> Result<usize, CheckError> {
    let shops: Api<OrderShop> = part.api(client);
    let listed = shops.list_metadata(&ListParams::default()).await;
    listed.map(|list| list.items.len()).map_err(|source| CheckError::Shops { scope: part.clone(), source })
}

/// Who holds the Lease, if it was renewed between two looks: no clock has to be compared with another.
fn leader(first: Option<&Lease>, now: Option<&Lease>) -> Result<String, &'static str> {
    let Some(now) = now else { return Err("not there") };
    let holder = now.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    if holder.is_empty() {
        return Err("held by nobody");
    }
    if first.is_some_and(|first| first.resource_version() == now.resource_version()) {
        return Err("not renewed");
    }
    Ok(holder)
}

/// Asks until the answer is good or the time is over.
async fn until<T>(
    deadline: Instant,
    period: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, CheckError>,
) -> Result<T, CheckError> {
    loop {
        match ask().await {
            Err(_) if Instant::now() + period < deadline => sleep(period).await,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn somebody_leads_who_holds_the_lease_and_renews_it() {
        let lease = |version: &str, holder: &str| -> Lease {
            let spec = json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder}});
            serde_json::from_value(spec).unwrap()
        };
        let (first, next) = (lease("1", "a"), lease("2", "a"));
        assert_eq!(leader(Some(&first), Some(&next)), Ok("a".to_owned()));
        assert_eq!(leader(None, Some(&first)), Ok("a".to_owned()), "it was just made");
        assert_eq!(leader(Some(&first), Some(&first)), Err("not renewed"));
        assert_eq!(leader(Some(&first), Some(&lease("2", ""))), Err("held by nobody"));
        assert_eq!(leader(None, None), Err("not there"));
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_waited_for_until_the_deadline() {
        let (mut left, period) = (3, Duration::from_millis(1));
        let answer = until(Instant::now() + Duration::from_secs(10), period, async || {
            left -= 1;
            if left > 0 { Err(CheckError::NobodyLeads("not there")) } else { Ok(left) }
        });
        assert!(matches!(answer.await, Ok(0)));
        let deadline = Instant::now() + Duration::from_millis(20);
        let answer = until(deadline, period, async || Err::<(), _>(CheckError::NobodyLeads("not there")));
        assert!(matches!(answer.await, Err(CheckError::NobodyLeads("not there"))));
    }
}
