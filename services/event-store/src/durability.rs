//! How many copies must have an append before it is answered. Waits by Redis' own WAIT and WAITAOF; promises
//! nothing that they do not: Redis replicates asynchronously, so a copy that has confirmed may still
//! lose an election to one that has not.

use redis::{Cmd, Value};
use std::time::Duration;

/// What an append waits for, after it was written.
///
/// A short count is [`crate::AppendErrorKind::Unknown`]: never a success, and never 'not appended'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// For the server's answer. Choose it where a failover may lose the last moments, or without replicas.
    /// What a killed server or a power loss costs is the server's `appendfsync` to say: nothing with
    /// `always`, the last one or two seconds with `everysec`.
    #[default]
    None,
    /// Until so many replicas have received it (`WAIT`). Choose it when one server's loss must not
    /// lose an event: with one replica or more. Costs a round trip from the server to the replica.
    Replicas {
        /// How many.
        count: u32,
        /// For how long to wait for them.
        timeout: Duration,
    },
    /// Until the append-only file of the server (`local`) and of so many replicas is on disk (`WAITAOF`, Redis
    /// 7.2 or Valkey). Choose it when a power loss must not lose an event, and every append need not
    /// pay for `appendfsync always`. Refused as [`crate::AppendErrorKind::Unsupported`] by a server
    /// that does not have it or writes no such file.
    Fsync {
        /// Must it be on the disk of the server that was written to?
        local: bool,
        /// On the disks of how many replicas?
        replicas: u32,
        /// For how long to wait.
        timeout: Duration,
    },
}

impl Durability {
    /// How long the server may take to answer [`Durability::command`].
    pub(crate) fn timeout(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Replicas { timeout, .. } | Self::Fsync { timeout, .. } => timeout,
        }
    }

    /// How many servers must confirm.
    pub(crate) fn wanted(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Replicas { count, .. } => count,
            Self::Fsync { local, replicas, .. } => u32::from(local) + replicas,
        }
    }

    /// What is sent behind the append, on the same connection; nothing when there is nothing to wait for.
    pub(crate) fn command(self) -> Option<Cmd> {
        if self.wanted() == 0 {
            return None;
        }
        // 0 would mean for ever.
        let ms = self.timeout().as_millis().max(1).to_string();
        let mut command = Cmd::new();
        match self {
            Self::None => return None,
            Self::Replicas { count, .. } => command.arg("WAIT").arg(count).arg(ms),
            Self::Fsync { local, replicas, .. } => {
                command.arg("WAITAOF").arg(u32::from(local)).arg(replicas).arg(ms)
            }
        };
        Some(command)
    }

    /// How many have confirmed, by the answer to [`Durability::command`].
    pub(crate) fn confirmed(self, answer: &Value) -> Option<u32> {
        let number = |value: &Value| match value {
            Value::Int(n) => u32::try_from(*n).ok(),
            _ => None,
        };
        match (self, answer) {
            (Self::Fsync { local, replicas, .. }, Value::Array(counts)) => {
                let [at_home, elsewhere] = counts.as_slice() else { return None };
                // One kind of copy does not stand in for the other.
                Some(number(at_home)?.min(u32::from(local)) + number(elsewhere)?.min(replicas))
            }
            (Self::Replicas { .. }, count) => number(count),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    #[test]
    fn one_kind_of_copy_does_not_stand_in_for_the_other() {
        let both = Durability::Fsync { local: true, replicas: 1, timeout: TIMEOUT };
        let counts = |local, replicas| Value::Array(vec![Value::Int(local), Value::Int(replicas)]);
        assert_eq!(both.confirmed(&counts(1, 1)), Some(2));
        assert_eq!(both.confirmed(&counts(0, 3)), Some(1));
        assert_eq!(both.confirmed(&counts(1, 0)), Some(1));
        assert_eq!(both.confirmed(&Value::Okay), None);
    }

    #[test]
    fn who_asks_for_nothing_waits_for_nothing() {
        assert!(Durability::None.command().is_none());
        assert!(Durability::Replicas { count: 0, timeout: TIMEOUT }.command().is_none());
        assert!(Durability::Fsync { local: false, replicas: 0, timeout: TIMEOUT }.command().is_none());
        let wait = Durability::Replicas { count: 2, timeout: Duration::ZERO };
        assert_eq!(
            wait.command().unwrap().get_packed_command(),
            b"*3\r\n$4\r\nWAIT\r\n$1\r\n2\r\n$1\r\n1\r\n"
        );
    }
}
