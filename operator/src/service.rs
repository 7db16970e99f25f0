//! The nine services as the operator sees them: names, ports, and who needs what.
//!
//! It knows nothing of what they do.

/// One of the nine services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The edge.
    Gateway,
    /// Owns the customers.
    Customer,
    /// Owns the products.
    Product,
    /// Owns the stock.
    Inventory,
    /// Owns the orders.
    Order,
    /// Owns the bills.
    Billing,
    /// Writes the customers' mails.
    Crm,
    /// Sends the mails.
    Notification,
    /// Answers every query.
    ReadModel,
}

impl Service {
    /// All nine, in the order in which they are listed everywhere.
    pub const ALL: [Self; 9] = [
        Self::Gateway,
        Self::Customer,
        Self::Product,
        Self::Inventory,
        Self::Order,
        Self::Billing,
        Self::Crm,
        Self::Notification,
        Self::ReadModel,
    ];

    /// The name: of the component, and the end of its objects' and image's names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Customer => "customer",
            Self::Product => "product",
            Self::Inventory => "inventory",
            Self::Order => "order",
            Self::Billing => "billing",
            Self::Crm => "crm",
            Self::Notification => "notification",
            Self::ReadModel => "read-model",
        }
    }

    /// The field of `spec.services`.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::ReadModel => "readModel",
            other => other.name(),
        }
    }

    /// The service with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// The container's HTTP port, and the port its Service listens on. None for the services that only react
    /// to events.
    #[must_use]
    pub fn http(self) -> Option<HttpPorts> {
        match self {
            Self::Gateway => Some(HttpPorts { container: 5000, service: 80 }),
            Self::Crm | Self::Notification => None,
            _ => Some(HttpPorts { container: 8080, service: 8080 }),
        }
    }

    /// The streams that its group reads, as the event store names them; none when it has no group.
    #[must_use]
    pub fn consumes(self) -> &'static [&'static str] {
        match self {
            Self::Inventory => &["order_created", "order_updated", "order_deleted"],
            Self::Order => {
                &["inventory_reserved", "inventory_rejected", "billing_created", "billing_deleted"]
            }
            Self::Billing => &["order_updated", "billing_created"],
            Self::Crm => &["customer_created", "customer_deleted", "order_updated"],
            Self::Notification => &["mail_requested"],
            Self::Gateway | Self::Customer | Self::Product | Self::ReadModel => &[],
        }
    }

    /// Whether it talks to Redis. The gateway reaches everything through the other services.
    #[must_use]
    pub fn uses_redis(self) -> bool {
        self != Self::Gateway
    }

    /// The services the gateway forwards to.
    pub fn behind_the_gateway() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|service| *service != Self::Gateway && service.http().is_some())
    }
}

/// The ports of a service's HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpPorts {
    /// What the container listens on.
    pub container: i32,
    /// What the Service listens on.
    pub service: i32,
}
