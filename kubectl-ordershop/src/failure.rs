//! How the program ends. The codes are part of its interface: scripts match on them.

use event_store::{ConnectError, ReadError};
use event_store_cli::exit::{Done, Failure as StoreFailure};
use event_store_cli::output::plain;
use pod_forward::ForwardError;
use std::io::{self, Write as _};
use std::process::ExitCode;
use telemetry::with_causes;

/// The table of codes as the help shows it.
pub(crate) const CODES: &str = "\
Exit codes:
  0  done
  1  something is wrong: the shop is not Ready, or what a command of `store` looked for
  2  the command line is not understood, or an answer is needed and nobody is there to give it
  3  the cluster or the shop's Redis cannot be reached
  4  what was named (a shop, a group, a dead letter) is not there
  5  it failed on the way; what was printed before holds
  6  you lack a right on the cluster; the message names it";

/// A command that did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line makes no sense here.
    #[error("{0}")]
    Usage(String),
    /// Cluster or Redis are not reached.
    #[error("{0}")]
    Unreachable(String),
    /// What was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// It failed on the way.
    #[error("{0}")]
    Failed(String),
    /// The cluster refuses it to this user.
    #[error("you may not do this: {0}")]
    Denied(String),
    /// A command on the event store.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Store(e.into())
    }
}

impl From<ConnectError> for Failure {
    fn from(e: ConnectError) -> Self {
        Self::Store(e.into())
    }
}

impl From<ReadError> for Failure {
    fn from(e: ReadError) -> Self {
        Self::Store(e.into())
    }
}

impl Failure {
    /// What Kubernetes answered while the program was at `doing`.
    pub(crate) fn of_cluster(doing: &str, error: &kube::Error) -> Self {
        use kube::client::UpgradeConnectionError::ProtocolSwitch;
        match error {
            kube::Error::Api(status) => {
                let said = format!("{doing}: {}", status.message);
                match status.code {
                    401 => {
                        Self::Denied(format!("{doing}: the cluster does not know you ({})", status.message))
                    }
                    403 => Self::Denied(said),
                    404 => Self::NotFound(said),
                    _ => Self::Failed(said),
                }
            }
            kube::Error::UpgradeConnection(ProtocolSwitch(code)) if code.as_u16() == 403 => {
                Self::Denied(format!("{doing}: it needs `create` on pods/portforward"))
            }
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::Auth(_) => {
                Self::Unreachable(format!("{doing}: {}", with_causes(error)))
            }
            _ => Self::Failed(format!("{doing}: {}", with_causes(error))),
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
            Self::NotFound(_) => 4,
            Self::Failed(_) => 5,
            Self::Denied(_) => 6,
            Self::Store(failure) => failure.code(),
        }
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        match &error {
            ForwardError::List { source, .. } => Self::of_cluster("the pods of Redis", source),
            ForwardError::Open { pod, source, .. } => {
                Self::of_cluster(&format!("the way to pod {pod}"), source)
            }
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// The code, after telling people why.
pub(crate) fn code(result: Result<Done, Failure>) -> ExitCode {
    match result {
        Ok(done) => event_store_cli::exit::code("kubectl ordershop", Ok(done)),
        Err(Failure::Store(failure)) => event_store_cli::exit::code("kubectl ordershop", Err(failure)),
        Err(failure) => {
            // Nothing is left to tell it to when this fails too.
            let _ = writeln!(io::stderr(), "kubectl ordershop: {}", plain(&failure.to_string()));
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn answered(code: u16) -> Failure {
        let status = Status { code, message: "secrets is forbidden".to_owned(), ..Status::default() };
        Failure::of_cluster("the Secret", &kube::Error::Api(Box::new(status)))
    }

    #[test]
    fn what_the_cluster_answers_has_its_exit_code() {
        for (code, exit) in [(401, 6), (403, 6), (404, 4), (409, 5), (500, 5)] {
            assert_eq!(answered(code).code(), exit, "{code}");
        }
        assert_eq!(answered(403).to_string(), "you may not do this: the Secret: secrets is forbidden");
        let refused: Box<dyn std::error::Error + Send + Sync> = "refused".into();
        assert_eq!(Failure::of_cluster("x", &kube::Error::Service(refused)).code(), 3);
    }

    #[test]
    fn every_code_stands_in_the_help() {
        for failure in [
            Failure::Usage(String::new()),
            Failure::Unreachable(String::new()),
            Failure::NotFound(String::new()),
            Failure::Failed(String::new()),
            Failure::Denied(String::new()),
        ] {
            assert!(CODES.contains(&format!("\n  {}  ", failure.code())), "{failure:?}");
        }
    }
}
