//! The reading side. A view that understands several versions reads the active one; a swap is
//! seen by each read as a whole, never in its middle.

use super::observe::Status;
use super::{Projection, parse_position};
use crate::error::{ProjectionError, ReadError};
use crate::{EventStore, Id, NameOf};
use redis::{Cmd, FromRedisValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two looks at a version that another program keeps up to date.
const LOOK: Duration = Duration::from_millis(2);

/// Reads what a projection holds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    store: EventStore,
    projection: Projection,
    status: watch::Receiver<Status>,
    /// The version that the last read was of.
    reading: Arc<AtomicU32>,
}

impl View {
    pub(super) fn new(store: EventStore, projection: Projection, status: watch::Receiver<Status>) -> Self {
        let reading = Arc::new(AtomicU32::new(projection.version));
        Self { store, projection, status, reading }
    }

    /// Everything up to here is applied to the version of this program, as far as this replica knows.
    #[must_use]
    pub fn position(&self) -> Id {
        self.status.borrow().position
    }

    /// The version that the last read or wait was of.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.reading.load(Ordering::Relaxed)
    }

    /// The last event of the projection's streams; what a strong read waits for.
    pub async fn head(&self) -> Result<Id, ReadError> {
        self.store.head_of(&self.projection.streams).await
    }

    /// Waits until this program's own version has applied everything that was in the log when the
    /// projector began, and readers of the version before would see no less in it. A replica is
    /// ready for traffic from then on.
    ///
    /// # Errors
    /// At once for a projection that cannot be one, or whose log was trimmed; at the deadline with what keeps it from
    /// following the log ([`ProjectionObservation::fault`](super::ProjectionObservation::fault)), else with how far it has come.
    pub async fn caught_up(&self, deadline: Duration) -> Result<(), ProjectionError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|s| s.caught_up || s.lasting_fault().is_some());
        let settled = tokio::time::timeout(deadline, settled).await.ok().and_then(Result::ok);
        if settled.is_some_and(|s| s.caught_up) {
            return Ok(());
        }
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        Err(ProjectionError::Behind { position: self.position(), wanted: self.head().await? })
    }

    fn fault(&self) -> Option<ProjectionError> {
        self.status.borrow().fault().cloned()
    }

    /// Waits until everything up to `id` is applied to the version that is read.
    ///
    /// # Errors
    /// At the deadline, as [`caught_up`](Self::caught_up).
    pub async fn wait_until(&self, id: Id, deadline: Duration) -> Result<(), ProjectionError> {
        if self.projection.follows() {
            return self.wait_for_the_active(id, deadline).await;
        }
        let mut status = self.status.clone();
        let reached = status.wait_for(|s| s.position >= id);
        match tokio::time::timeout(deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => {
                Err(self.fault().unwrap_or(ProjectionError::Behind { position: self.position(), wanted: id }))
            }
        }
    }

    /// The active version may be another program's, so its position is asked of the server; and it
    /// may change while waiting.
    async fn wait_for_the_active(&self, id: Id, deadline: Duration) -> Result<(), ProjectionError> {
        let (layout, p) = (self.store.layout(), &self.projection);
        let versions: Vec<u32> = std::iter::once(p.version).chain(p.also.iter().copied()).collect();
        let mut command = redis::cmd("MGET");
        command.arg(layout.active(&p.name));
        for version in &versions {
            command.arg(layout.projection(&p.name, *version, "position"));
        }
        let end = Instant::now() + deadline;
        loop {
            let mut reads = self.store.reads_within(end.saturating_duration_since(Instant::now()).max(LOOK));
            let found: Vec<Option<String>> =
                command.query_async(&mut reads).await.map_err(ReadError::from)?;
            let version = p.choose(number(found.first().cloned().flatten().as_deref()));
            let at = versions.iter().position(|v| *v == version).map_or(1, |i| i + 1);
            let position = parse_position(found.get(at).and_then(Option::as_deref))?;
            self.reading.store(version, Ordering::Relaxed);
            if position >= id {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(ProjectionError::Behind { position, wanted: id });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Reads from the version that is active at the moment of the read: the pointer is read after
    /// the data, so data of a version that had been replaced, or removed, is never answered.
    async fn read<T: FromRedisValue>(
        &self,
        key: &str,
        command: impl Fn(String) -> Cmd,
    ) -> Result<T, ReadError> {
        let (layout, p) = (self.store.layout(), &self.projection);
        // With another name the keys could be those of something else.
        NameOf::Projection.check(&p.name)?;
        if !p.follows() {
            return Ok(command(p.key(layout, key)).query_async(&mut self.store.reads()).await?);
        }
        loop {
            let version = self.version();
            let mut pipe = redis::pipe();
            pipe.add_command(command(layout.projection(&p.name, version, key)));
            pipe.cmd("GET").arg(layout.active(&p.name));
            let (found, active): (T, Option<u32>) = pipe.query_async(&mut self.store.reads()).await?;
            let chosen = p.choose(active);
            if chosen == version {
                return Ok(found);
            }
            self.reading.store(chosen, Ordering::Relaxed);
        }
    }

    /// Some fields of a hash, in the order asked for.
    pub async fn hash_get<F: AsRef<str>>(
        &self,
        key: &str,
        fields: &[F],
    ) -> Result<Vec<Option<String>>, ReadError> {
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
        self.read(key, |key| redis::cmd("HMGET").arg(key).arg(&names).clone()).await
    }

    /// All values of a hash, in no order.
    pub async fn hash_values(&self, key: &str) -> Result<Vec<String>, ReadError> {
        self.read(key, |key| redis::cmd("HVALS").arg(key).clone()).await
    }

    /// All fields and values of a hash, in no order.
    pub async fn hash_all(&self, key: &str) -> Result<Vec<(String, String)>, ReadError> {
        self.read(key, |key| redis::cmd("HGETALL").arg(key).clone()).await
    }

    /// Members of a sorted set, ascending by score then bytes, from `offset`, at most `count`.
    pub async fn sorted_range(
        &self,
        key: &str,
        offset: usize,
        count: usize,
    ) -> Result<Vec<String>, ReadError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let end = i64::try_from(offset.saturating_add(count - 1)).unwrap_or(-1);
        self.read(key, |key| redis::cmd("ZRANGE").arg(key).arg(offset).arg(end).clone()).await
    }
}

fn number(text: Option<&str>) -> Option<u32> {
    text.and_then(|t| t.parse().ok())
}
