//! The services behind the gateway, and where they are. Opens no connection.

use axum::http::Uri;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use clap::Args;
use std::fmt;
use std::str::FromStr;

/// Where a service is: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    authority: Authority,
}

/// Why a text is no address of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address of a service: expected http://host:port, without a path")]
pub(crate) struct InvalidUpstream(String);

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidUpstream(text.to_owned());
        let parts = text.parse::<Uri>().map_err(|_| invalid())?.into_parts();
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if bare && scheme == Scheme::HTTP && !authority.as_str().contains('@') =>
            {
                Ok(Self { authority })
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Upstream {
    /// The address of a path at this service; the path is taken as the client wrote it.
    pub(crate) fn at(&self, path: Option<&PathAndQuery>) -> Result<Uri, axum::http::Error> {
        Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.authority.clone())
            .path_and_query(path.map_or("/", PathAndQuery::as_str))
            .build()
    }
}

/// The services that the gateway forwards to.
#[derive(Args, Clone, Debug)]
pub(crate) struct Upstreams {
    /// Where the customer service is: `http://host:port`.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "customer-url", env = "ORDERSHOP_CUSTOMER_URL", value_name = "URL")]
    pub(crate) customer: Upstream,

    /// Where the product service is.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "product-url", env = "ORDERSHOP_PRODUCT_URL", value_name = "URL")]
    pub(crate) product: Upstream,

    /// Where the inventory service is.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "inventory-url", env = "ORDERSHOP_INVENTORY_URL", value_name = "URL")]
    pub(crate) inventory: Upstream,

    /// Where the order service is.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "order-url", env = "ORDERSHOP_ORDER_URL", value_name = "URL")]
    pub(crate) order: Upstream,

    /// Where the billing service is.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "billing-url", env = "ORDERSHOP_BILLING_URL", value_name = "URL")]
    pub(crate) billing: Upstream,

    /// Where the read model is.
    ///
    /// Changes with the place where the service runs; needed.
    #[arg(long = "read-model-url", env = "ORDERSHOP_READ_MODEL_URL", value_name = "URL")]
    pub(crate) read_model: Upstream,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for good in ["http://shop-customer:8080", "http://127.0.0.1:1/", "http://[::1]:8080"] {
            assert!(good.parse::<Upstream>().is_ok(), "{good}");
        }
        for bad in
            ["", "shop-customer:8080", "https://a:1", "http://a:1/path", "http://a?x=1", "http://u:p@a:1"]
        {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_stays_as_the_client_wrote_it() {
        let upstream: Upstream = "http://a:1".parse().unwrap();
        let path = "/order/a%2Fb?consistency=eventual&x=%20".parse().unwrap();
        assert_eq!(
            upstream.at(Some(&path)).unwrap().to_string(),
            "http://a:1/order/a%2Fb?consistency=eventual&x=%20"
        );
    }
}
