//! What each service may do in the shop's Redis: the rules of its user there.
//!
//! Every service is a user of its own, with the commands of the event store and the keys of its own part of the
//! shop: it appends to its own streams, writes its own entities and its own group, and reads what it looks up.
//! From a stream that it consumes it reads and acknowledges, but cannot append to it.
//!
//! What cannot be separated, because the store's scripts share it: the clock, the memory of event ids, the set of
//! groups, and for services that order their events with a customer's, that customer's order. And who may read
//! from a stream may also let another group of that stream lose its entries.
//!
//! Nobody loads functions: a library that one service replaced would run with the rights of all who call it. The
//! store then calls the same code as scripts, which are named by their content.
//!
//! It knows nothing of passwords, and nothing of what the services do with their data.

use crate::service::Service;

/// The user of people: everything is allowed.
pub const ADMIN: &str = "admin";

/// The user of the probes, and of people who look: it reads.
pub const READER: &str = "reader";

/// The line of the user whom nobody is. Redis loads its append-only file in its name, and checks its rights for what
/// scripts and transactions wrote: were it less than all, these writes would be missing after a restart.
pub const NOBODY: &str = "user default reset ~* &* +@all";

/// What the store sends, as `doctor/rights.rs` of the event store lists it: without functions.
const COMMANDS: &str = "+acl|whoami +client|id +client|unblock +del +discard +evalsha +exec +exists +get +hdel +hexists +hget +hgetall \
    +hincrby +hlen +hmget +hscan +hset +hvals +info +lrange +mget +mset +multi +pexpireat +ping +rpush +sadd +scan +scard \
    +script|load +set +sismember +smembers +smismember +srandmember +srem +sscan +time +type +unlink +xack +xadd \
    +xautoclaim +xclaim +xdel +xgroup|create +xgroup|delconsumer +xgroup|setid +xinfo|consumers +xinfo|groups \
    +xinfo|stream +xlen +xpending +xrange +xread +xreadgroup +xrevrange +xtrim +zadd +zrange +zrangebylex +zrem +zscan \
    +zscore";

/// What is done to a stream that belongs to another service.
const CONSUME: &str =
    "+evalsha +xack +xautoclaim +xclaim +xgroup|create +xgroup|delconsumer +xgroup|setid +xreadgroup";

/// The part of the shop that belongs to a service. Kinds and streams by their names, as patterns.
#[derive(Default)]
struct Part {
    /// The kinds of entities it writes.
    owns: &'static [&'static str],
    /// The streams it appends to.
    appends: &'static [&'static str],
    /// The streams of others that its group reads.
    consumes: &'static [&'static str],
    /// The kinds of others it looks up.
    looks_up: &'static [&'static str],
    /// Whether its events are ordered with those of their customer.
    of_customers: bool,
    /// The projection it keeps, of all streams.
    projects: Option<&'static str>,
}

fn part(service: Service) -> Option<Part> {
    let part = Part::default();
    Some(match service {
        Service::Gateway => return None,
        Service::Customer => Part { owns: &["customer"], appends: &["customer_*"], ..part },
        Service::Product => Part { owns: &["product"], appends: &["product_*"], ..part },
        Service::Inventory => Part {
            owns: &["inventory", "reservation"],
            appends: &["inventory_*"],
            consumes: &["order_*"],
            ..part
        },
        Service::Order => Part {
            owns: &["order"],
            appends: &["order_*"],
            consumes: &["inventory_*", "billing_*"],
            looks_up: &["customer", "product", "billing"],
            of_customers: true,
            ..part
        },
        Service::Billing => Part {
            owns: &["billing", "mail"],
            appends: &["billing_*", "mail_requested"],
            consumes: &["order_*"],
            looks_up: &["order"],
            of_customers: true,
            ..part
        },
        Service::Crm => Part {
            owns: &["mail"],
            appends: &["mail_requested"],
            consumes: &["customer_*", "order_*"],
            of_customers: true,
            ..part
        },
        Service::Notification => Part {
            owns: &["mail"],
            appends: &["mail_sent", "mail_failed"],
            consumes: &["mail_requested"],
            of_customers: true,
            ..part
        },
        Service::ReadModel => Part { projects: Some("read-model"), ..part },
    })
}

/// The rules of a service's user, as they stand in an ACL file; `None` when it does not talk to Redis.
#[must_use]
pub fn of_service(service: Service) -> Option<String> {
    let Part { owns, appends, consumes, looks_up, of_customers, projects } = part(service)?;
    // When it connects, the store settles what its programs have in common, and looks at its rights on keys of these names.
    let mut keys = vec![
        "eventstore:settings".to_owned(),
        "eventstore:key:probe".into(),
        "eventstore-doctor_ids".into(),
        "events:eventstore-doctor_probe".into(),
    ];
    for kind in owns {
        keys.extend([format!("{kind}_*"), format!("eventstore:key:{kind}/*")]);
    }
    keys.extend(appends.iter().map(|stream| format!("events:{stream}")));
    if !appends.is_empty() {
        keys.extend(["eventstore:clock".to_owned(), "eventstore:seen:*".into()]);
    }
    if of_customers {
        keys.push("eventstore:key:customer/*".to_owned());
    }
    if !consumes.is_empty() {
        keys.extend([format!("eventstore:group:{}:*", service.name()), "eventstore:groups".into()]);
    }
    if let Some(projection) = projects {
        keys.extend([format!("{projection}:*"), "eventstore:projections".into()]);
    }
    let mut reads = vec!["eventstore:kept:*".to_owned(), "eventstore:trimmed".into()];
    reads.extend(consumes.iter().map(|stream| format!("events:{stream}")));
    for kind in looks_up {
        reads.extend([format!("events:{kind}_*"), format!("{kind}_*"), format!("eventstore:key:{kind}/*")]);
    }
    if projects.is_some() {
        reads.extend(["eventstore:clock".to_owned(), "events:*".into()]);
    }
    let written = patterns("~", &keys);
    let mut rules = format!("-@all {COMMANDS} {written} {}", patterns("%R~", &reads));
    if !consumes.is_empty() {
        let streams: Vec<_> = consumes.iter().map(|stream| format!("events:{stream}")).collect();
        rules = format!("{rules} (-@all {CONSUME} {written} {})", patterns("~", &streams));
    }
    Some(rules)
}

/// The rules of the two users that are no services.
#[must_use]
pub fn of_people() -> [(&'static str, &'static str); 2] {
    [(ADMIN, "~* &* +@all"), (READER, "-@all %R~* +@read -@dangerous +bgrewriteaof +info +ping +time")]
}

fn patterns(permission: &str, keys: &[String]) -> String {
    keys.iter().map(|key| format!("{permission}{key}")).collect::<Vec<_>>().join(" ")
}
