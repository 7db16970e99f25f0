//! How a server is reached that another server names: a cluster's node, or the master by the word of a
//! sentinel. All but the address is that of the server that was named in the configuration.

use super::invalid;
use crate::config::Config;
use crate::error::ConnectError;
use redis::cluster::NodeAddress;
use redis::{ConnectionAddr, ConnectionInfo};
use std::collections::HashMap;

/// From what servers say of each other to how they are reached from here.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    model: ConnectionInfo,
    reachable: HashMap<NodeAddress, NodeAddress>,
}

impl Addresses {
    pub(super) fn new(model: ConnectionInfo, config: &Config) -> Result<Self, ConnectError> {
        let mut known = HashMap::new();
        for (advertised, reachable) in &config.addresses {
            let parse = |text: &str| NodeAddress::try_from(text).map_err(invalid);
            known.insert(parse(advertised)?, parse(reachable)?);
        }
        Ok(Self { model, reachable: known })
    }

    /// The server whose login and TLS all others share.
    pub(super) fn model(&self) -> &ConnectionInfo {
        &self.model
    }

    /// The addresses that differ from here.
    pub(super) fn differing(&self) -> &HashMap<NodeAddress, NodeAddress> {
        &self.reachable
    }

    /// How the server that is named so is reached.
    pub(super) fn reach(&self, advertised: NodeAddress) -> ConnectionInfo {
        let address = self.reachable.get(&advertised).cloned().unwrap_or(advertised);
        let (host, port) = (address.host().to_owned(), address.port());
        let addr = match self.model.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.model.clone().set_addr(addr)
    }
}
