//! The gateway's flags and environment variables.

use crate::forward::Limits;
use crate::upstream::Upstreams;
use chassis::config::{CommonArgs, HttpArgs};
use clap::Parser;
use std::net::SocketAddr;
use std::time::Duration;

/// The edge of the shop: classic HTTP routes, forwarded to the services.
#[derive(Parser, Clone, Debug)]
#[command(version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,

    #[command(flatten)]
    pub(crate) upstreams: Upstreams,

    /// Address that clients use.
    ///
    /// Change it when the port is taken.
    #[arg(long, env = "ORDERSHOP_LISTEN", default_value = "0.0.0.0:5000", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Largest body that is accepted, in bytes; a larger one is answered with 413.
    ///
    /// Raise it for clients that send long lists at once. The services take no more than 16 MiB.
    #[arg(long, env = "ORDERSHOP_MAX_BODY_BYTES", default_value_t = 1_048_576, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(1..=chassis::body::MAX_BODY_BYTES as u64))]
    max_body_bytes: u64,

    /// How long a service may take to answer, in milliseconds; then the answer is 504.
    ///
    /// Keep it well above the order service's --decision-wait-ms, for which a caller of an order is
    /// kept waiting.
    #[arg(long, env = "ORDERSHOP_UPSTREAM_TIMEOUT_MS", default_value_t = 8000, value_name = "MILLISECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600_000))]
    upstream_timeout_ms: u64,
}

impl Args {
    pub(crate) fn http(&self) -> HttpArgs {
        HttpArgs { listen: self.listen }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            body: usize::try_from(self.max_body_bytes).unwrap_or(chassis::body::MAX_BODY_BYTES),
            answer: Duration::from_millis(self.upstream_timeout_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_has_a_variable_and_says_when_to_change_it() {
        Args::command().debug_assert();
        for argument in Args::command().get_arguments() {
            let flag = argument.get_long().expect("a long flag");
            let variable = argument.get_env().expect("a variable").to_str().expect("text");
            assert_eq!(variable, format!("ORDERSHOP_{}", flag.to_uppercase().replace('-', "_")));
            assert!(argument.get_long_help().is_some(), "--{flag} does not say when to change it");
        }
    }
}
