//! The way to a shop's Redis: its URL from the shop's Secret, its port through the API server.
//!
//! The URL holds a password: it is handed to the event store and printed nowhere.

use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use event_store_cli::args::Server;
use event_store_cli::output::remark;
use k8s_openapi::api::core::v1::Secret;
use ordershop_operator::controller::labels::REDIS;
use pod_forward::Forward;
use std::net::SocketAddr;
use url::Url;

const PORT: u16 = 6379;
/// The key with the URL of the user who may do everything, in the Secret of a Redis of the shop's own.
const ADMIN: &str = "admin";

/// A way that is open. Ends with its drop.
pub(crate) struct Way {
    pub(crate) server: Server,
    _forward: Option<Forward>,
}

/// Opens the way to the shop's Redis.
pub(crate) async fn open(cluster: &Cluster, shop: &Shop) -> Result<Way, Failure> {
    let external = shop.spec("/redis/external/urlSecret");
    if let Some(name) = external["name"].as_str() {
        let key = external["key"].as_str().unwrap_or("url");
        let url = secret(cluster, name, key).await?;
        let url = url.ok_or_else(|| Failure::NotFound(format!("the Secret {name} has no key {key}")))?;
        // It is not in the cluster: whether it is reached from here is not ours to say.
        return Ok(Way { server: Server::standalone(url), _forward: None });
    }
    let admin = secret(cluster, &shop.object_name(REDIS), ADMIN).await?;
    let selector = shop.pods_of(REDIS);
    pod_forward::check(cluster.objects(), selector.clone(), PORT).await?;
    let say = |error| remark(&format!("{error}"));
    let forward = Forward::open(cluster.objects(), selector, PORT, say).await?;
    let url = through(admin.as_deref(), forward.address())?;
    Ok(Way { server: Server::standalone(url), _forward: Some(forward) })
}

/// A value of a Secret; `None` where there is no such Secret or key.
async fn secret(cluster: &Cluster, name: &str, key: &str) -> Result<Option<String>, Failure> {
    let found = cluster.objects::<Secret>().get_opt(name).await;
    let found = found.map_err(|e| Failure::of_cluster(&format!("the Secret {name}"), &e))?;
    let value = found.and_then(|secret| secret.data?.remove(key));
    let text = value.map(|value| String::from_utf8(value.0)).transpose();
    text.map_err(|_| Failure::Failed(format!("the Secret {name} has no text as its {key}")))
}

/// The same user and password at another address. A shop of an operator that gave Redis no passwords has no URL.
fn through(url: Option<&str>, address: SocketAddr) -> Result<String, Failure> {
    let Some(url) = url else { return Ok(format!("redis://{address}")) };
    // What the parser says of it may hold a part of it.
    let wrong = || Failure::Failed("the URL in the Secret of Redis is none".to_owned());
    let mut url = Url::parse(url).map_err(|_| wrong())?;
    url.set_ip_host(address.ip()).map_err(|()| wrong())?;
    url.set_port(Some(address.port())).map_err(|()| wrong())?;
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_stay_and_the_address_is_the_forwarded_one() {
        let address = "127.0.0.1:4000".parse().unwrap();
        for (url, expected) in [
            (None, "redis://127.0.0.1:4000"),
            (Some("redis://admin:x%40y@shop-redis:6379"), "redis://admin:x%40y@127.0.0.1:4000"),
            (Some("redis://:x@shop-redis"), "redis://:x@127.0.0.1:4000"),
        ] {
            assert_eq!(through(url, address).unwrap(), expected);
        }
        let failure = through(Some("redis:x:secret"), address).unwrap_err().to_string();
        assert!(!failure.contains("secret@"), "{failure}");
    }
}
