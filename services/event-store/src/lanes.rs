//! The ways that appends take to the server: one writer for all that wait for its answer alone, another for
//! those that wait for copies, since the server answers nothing else on a connection meanwhile.
//! A writer ends with the runtime that it was started on; the next append starts another one on its own.
//! A promise that the server cannot keep is refused here, before anything is sent.

use crate::Durability;
use crate::config::Config;
use crate::connection::{Connection, info_field};
use crate::error::{AppendError, AppendErrorKind};
use crate::writer::{self, Job};
use redis::{RedisError, Value};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};

pub(crate) struct Lanes {
    connection: Connection,
    config: Config,
    ordinary: Mutex<mpsc::Sender<Job>>,
    durable: tokio::sync::Mutex<Option<mpsc::Sender<Job>>>,
    disk: OnceCell<Disk>,
}

/// What the server can say about its disk.
#[derive(Clone, Copy, Debug)]
struct Disk {
    has_waitaof: bool,
    writes_file: bool,
}

impl Lanes {
    pub(crate) fn new(connection: Connection, config: Config) -> Self {
        let ordinary = Mutex::new(writer::start(connection.clone(), &config));
        Self { connection, config, ordinary, durable: tokio::sync::Mutex::default(), disk: OnceCell::new() }
    }

    /// Where to send appends of this durability.
    pub(crate) async fn lane(&self, durability: Durability) -> Result<mpsc::Sender<Job>, AppendError> {
        if durability.wanted() == 0 {
            return Ok(self.ordinary());
        }
        self.check(durability).await?;
        // Held while one is opened, so that one is opened.
        let mut durable = self.durable.lock().await;
        if let Some(lane) = durable.as_ref().filter(|lane| !lane.is_closed()) {
            return Ok(lane.clone());
        }
        // The writer bounds the wait itself: each append may ask for another one.
        let patient = self.config.clone().response_timeout(Duration::from_hours(24));
        let connection = Connection::open(&patient).await.map_err(unavailable)?;
        Ok(durable.insert(writer::start(connection, &self.config)).clone())
    }

    fn ordinary(&self) -> mpsc::Sender<Job> {
        // Nobody panics while holding it.
        let mut lane = self.ordinary.lock().unwrap_or_else(PoisonError::into_inner);
        if lane.is_closed() {
            *lane = writer::start(self.connection.clone(), &self.config);
        }
        lane.clone()
    }

    /// Can the server keep this promise?
    pub(crate) async fn check(&self, durability: Durability) -> Result<(), AppendError> {
        let Durability::Fsync { local, .. } = durability else { return Ok(()) };
        let disk = self.disk.get_or_try_init(|| self.ask_about_disk()).await.map_err(unavailable)?;
        let unsupported = |message| Err(AppendError::new(AppendErrorKind::Unsupported, message));
        if !disk.has_waitaof {
            return unsupported(
                "the server has no WAITAOF: use Redis 7.2 or newer or Valkey, or Durability::Replicas",
            );
        }
        if local && !disk.writes_file {
            return unsupported("the server writes no append-only file: set appendonly yes");
        }
        Ok(())
    }

    async fn ask_about_disk(&self) -> Result<Disk, RedisError> {
        let mut disk = Disk { has_waitaof: true, writes_file: true };
        let mut connection = self.connection.clone();
        let mut command = redis::cmd("COMMAND");
        command.arg("INFO").arg("WAITAOF");
        for (_, answer) in connection.everywhere(&command).await? {
            disk.has_waitaof &=
                matches!(answer?, Value::Array(known) if matches!(known.first(), Some(Value::Array(_))));
        }
        let mut command = redis::cmd("INFO");
        command.arg("persistence");
        for (_, answer) in connection.everywhere(&command).await? {
            let info: String = redis::from_redis_value(answer?)?;
            disk.writes_file &= info_field(&info, "aof_enabled") == Some("1");
        }
        Ok(disk)
    }
}

fn unavailable(e: impl std::fmt::Display) -> AppendError {
    AppendError::new(AppendErrorKind::Unavailable, e.to_string())
}
