//! The flags and environment variables that services share. Each service flattens the groups it
//! needs into its own arguments. Nothing here reads a file or talks to anything.

use crate::Service;
use clap::Args;
use event_store::Config;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a read of the event store is repeated while Redis is away. A request makes two reads in a row at most before
/// its first answer, and the gateway waits 8 s for a service: so the caller gets a 503 that names the cause, not a 504. A
/// restart of Redis takes less.
const READ_DEADLINE: Duration = Duration::from_secs(3);

/// What every service has: its admin port, its name in groups, logs, shutdown.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Address of the admin server: /livez, /readyz, /metrics.
    ///
    /// Change it when several services share one machine. Never expose it to the internet.
    #[arg(long, env = "ORDERSHOP_ADMIN_LISTEN", default_value = "0.0.0.0:9090", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,

    /// Name of this process among the consumers of its group. Default: $HOSTNAME, or the service's
    /// name and process id.
    ///
    /// Two running processes must never share one. In Kubernetes the pod's name is right.
    #[arg(long, env = "ORDERSHOP_CONSUMER", value_name = "NAME")]
    pub consumer: Option<String>,

    /// What is logged: error, warn, info, debug or trace, also by module: `info,event_store=debug`.
    ///
    /// Change it while looking for the cause of something; debug logs every request.
    #[arg(long, env = "ORDERSHOP_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// Seconds from the first SIGTERM to the end of the process at the latest.
    ///
    /// Requests and events in flight are finished within it. Keep it below the time after which
    /// the platform kills (30 s in Kubernetes).
    #[arg(long, env = "ORDERSHOP_SHUTDOWN_SECONDS", default_value_t = 10, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub shutdown_seconds: u64,
}

impl CommonArgs {
    /// The consumer's name: as configured, else the host's name, else service and process id.
    #[must_use]
    pub fn consumer(&self, service: &str) -> String {
        let given = self.consumer.clone().filter(|name| !name.is_empty());
        consumer_name(given, std::env::var("HOSTNAME").ok(), service, std::process::id())
    }

    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}

fn consumer_name(given: Option<String>, host: Option<String>, service: &str, pid: u32) -> String {
    given.or_else(|| host.filter(|name| !name.is_empty())).unwrap_or_else(|| format!("{service}-{pid}"))
}

/// Where the event store is.
#[derive(Args, Clone, Debug)]
pub struct RedisArgs {
    /// Redis that holds the event store: `redis://[user:password@]host:port[/database]`.
    ///
    /// The service starts without it, is alive but not ready, and connects when it comes.
    #[arg(
        long,
        env = "ORDERSHOP_REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub redis_url: String,
}

impl RedisArgs {
    /// The event store's configuration for this Redis.
    #[must_use]
    pub fn store(&self) -> Config {
        Config::new(&self.redis_url).read_deadline(READ_DEADLINE)
    }
}

/// Where the service's HTTP API listens.
#[derive(Args, Clone, Debug)]
pub struct HttpArgs {
    /// Address of the HTTP API.
    ///
    /// Change it when several services share one machine.
    #[arg(long, env = "ORDERSHOP_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
}

/// What a service with an HTTP API over the event store has.
#[derive(Args, Clone, Debug)]
pub struct StoreApiArgs {
    /// What every service has.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The event store.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// The HTTP API.
    #[command(flatten)]
    pub http: HttpArgs,
}

impl StoreApiArgs {
    /// The service of this name, not started.
    pub fn service(&self, name: &'static str) -> Service {
        Service::new(name, self.common.clone()).with_http(self.http.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct All {
        #[command(flatten)]
        args: StoreApiArgs,
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let All { args: all } = All::parse_from(["x"]);
        assert_eq!(all.common.admin_listen.to_string(), "0.0.0.0:9090");
        assert_eq!(all.common.shutdown_seconds, 10);
        assert_eq!(all.redis.redis_url, "redis://127.0.0.1:6379");
        assert_eq!(all.http.listen.to_string(), "0.0.0.0:8080");
    }

    #[test]
    fn every_flag_has_a_variable_and_says_when_to_change_it() {
        for argument in All::command().get_arguments() {
            let flag = argument.get_long().expect("a long flag");
            let variable = argument.get_env().expect("a variable").to_str().expect("text");
            assert_eq!(variable, format!("ORDERSHOP_{}", flag.to_uppercase().replace('-', "_")));
            let help = argument.get_long_help().unwrap_or_else(|| panic!("--{flag} explains nothing"));
            assert!(help.to_string().contains("\n\n"), "--{flag} does not say when to change it");
        }
    }

    #[test]
    fn a_consumer_is_named_by_flag_then_host_then_process() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(consumer_name(some("a"), some("pod"), "crm", 7), "a");
        assert_eq!(consumer_name(None, some("pod"), "crm", 7), "pod");
        assert_eq!(consumer_name(None, some(""), "crm", 7), "crm-7");
        assert_eq!(consumer_name(None, None, "crm", 7), "crm-7");
    }
}
