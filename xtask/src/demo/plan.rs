//! What the demo starts: ten processes, their ports and their settings. Decides only, starts nothing.

use std::path::{Path, PathBuf};

/// The nine services, in the order in which everything lists them.
pub(crate) const SERVICES: [&str; 9] =
    ["gateway", "customer", "product", "inventory", "order", "billing", "crm", "notification", "read-model"];

/// The services that the gateway forwards to; the others have no HTTP API.
const FORWARDED: [&str; 6] = ["customer", "product", "inventory", "order", "billing", "read-model"];

/// One process of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    /// How to learn that it works.
    pub(super) probe: Probe,
}

/// How a process says that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Redis answers PING on this port.
    Ping(u16),
    /// A service answers 200 to `/readyz` on its admin port.
    Readyz(u16),
}

/// How many free ports [`services`] needs.
pub(super) const PORTS: usize = SERVICES.len() + FORWARDED.len();

/// The nine services on loopback. `ports` holds [`PORTS`] free ones.
pub(super) fn services(binaries: &Path, gateway: u16, redis: u16, ports: &[u16]) -> Vec<Plan> {
    let (admin, http) = ports.split_at(SERVICES.len());
    let http_of = |service: &str| FORWARDED.iter().position(|s| *s == service).and_then(|i| http.get(i));
    SERVICES
        .iter()
        .zip(admin)
        .map(|(&name, &admin)| {
            let mut env = vec![
                ("ORDERSHOP_REDIS_URL".to_owned(), format!("redis://127.0.0.1:{redis}")),
                ("ORDERSHOP_ADMIN_LISTEN".to_owned(), format!("127.0.0.1:{admin}")),
                // A fixed name: a restarted consumer finds its own pending entries again.
                ("ORDERSHOP_CONSUMER".to_owned(), format!("{name}-demo")),
            ];
            if name == "gateway" {
                env.push(("ORDERSHOP_LISTEN".to_owned(), format!("127.0.0.1:{gateway}")));
                for (service, port) in FORWARDED.iter().zip(http) {
                    let variable = format!("ORDERSHOP_{}_URL", service.to_uppercase().replace('-', "_"));
                    env.push((variable, format!("http://127.0.0.1:{port}")));
                }
            } else if let Some(port) = http_of(name) {
                env.push(("ORDERSHOP_LISTEN".to_owned(), format!("127.0.0.1:{port}")));
            }
            let program = binaries.join(format!("ordershop-{name}"));
            Plan { name, program, args: Vec::new(), env, probe: Probe::Readyz(admin) }
        })
        .collect()
}

/// Redis as the event store needs it: every write in a file, and never an eviction.
pub(super) fn redis(program: PathBuf, port: u16, data: &Path) -> Plan {
    let settings = [
        ("--port", port.to_string()),
        ("--bind", "127.0.0.1".to_owned()),
        ("--dir", data.display().to_string()),
        ("--appendonly", "yes".to_owned()),
        ("--maxmemory-policy", "noeviction".to_owned()),
        ("--save", String::new()),
        ("--daemonize", "no".to_owned()),
    ];
    let args = settings.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
    Plan { name: "redis", program, args, env: Vec::new(), probe: Probe::Ping(port) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Vec<Plan> {
        let ports: Vec<u16> = (20_000..).take(PORTS).collect();
        services(Path::new("/bin"), 5000, 6390, &ports)
    }

    fn value<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
        plan.env.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn the_gateway_is_told_where_each_service_listens() {
        let plans = plans();
        let gateway = &plans[0];
        for service in FORWARDED {
            let plan = plans.iter().find(|p| p.name == service).unwrap();
            let variable = format!("ORDERSHOP_{}_URL", service.to_uppercase().replace('-', "_"));
            let listens = format!("http://{}", value(plan, "ORDERSHOP_LISTEN").unwrap());
            assert_eq!(value(gateway, &variable), Some(listens.as_str()), "{service}");
        }
    }

    #[test]
    fn no_two_processes_share_an_address() {
        let mut addresses: Vec<String> = plans()
            .iter()
            .flat_map(|p| p.env.clone())
            .filter(|(name, _)| name.ends_with("_LISTEN"))
            .map(|(_, address)| address)
            .collect();
        let all = addresses.len();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), all);
        assert_eq!(all, SERVICES.len() + FORWARDED.len() + 1);
    }

    #[test]
    fn redis_never_evicts_and_keeps_every_write() {
        let plan = redis(PathBuf::from("redis-server"), 6390, Path::new("/data"));
        let args = plan.args.join(" ");
        assert!(args.contains("--maxmemory-policy noeviction"), "{args}");
        assert!(args.contains("--appendonly yes"), "{args}");
        assert!(args.contains("--bind 127.0.0.1"), "{args}");
    }
}
