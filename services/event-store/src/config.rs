//! How a store is opened.

use crate::doctor::Access;
use crate::limit::BatchLimit;
use crate::metrics::Silent;
use crate::{Durability, Kind, Layout, Metrics};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A master that sentinels watch.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) name: String,
    /// User and password, where the sentinels' are not right for the master.
    pub(crate) login: Option<(String, String)>,
}

/// Where the store is and how it behaves; see each method for when to change it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The server, nodes of a cluster, or the sentinels.
    pub(crate) urls: Vec<String>,
    pub(crate) watched: Option<Watched>,
    pub(crate) addresses: Vec<(String, String)>,
    pub(crate) layout: Layout,
    pub(crate) access: Access,
    /// `None`: as the store has it.
    pub(crate) dedup_window: Option<Duration>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) response_timeout: Duration,
    pub(crate) append_deadline: Duration,
    pub(crate) read_deadline: Duration,
    pub(crate) batch_limit: BatchLimit,
    pub(crate) metrics: Arc<dyn Metrics>,
    pub(crate) durability: Durability,
}

impl Config {
    /// The window of a store whose first program states none.
    pub(crate) const DEDUP_WINDOW: Duration = Duration::from_hours(1);

    /// A store at `redis://[user:password@]host:port[/db]`: a standalone server, or any node of a
    /// Redis Cluster.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            watched: None,
            addresses: Vec::new(),
            layout: Layout::Plain,
            access: Access::Full,
            dedup_window: None,
            kinds: Vec::new(),
            response_timeout: Duration::from_secs(5),
            append_deadline: Duration::from_secs(10),
            read_deadline: Duration::from_secs(10),
            batch_limit: BatchLimit::default(),
            metrics: Arc::new(Silent),
            durability: Durability::None,
        }
    }

    /// A store on the master that sentinels watch under this name; `sentinels` are their URLs, as
    /// `redis://host:26379`. Name all of them, so that a program can start while some are away. After a
    /// failover everything goes on at the new master.
    ///
    /// A scheme `rediss` and a database `/db` of the first URL are those of the master too, and so are its
    /// user and password unless [`Config::master_login`] says others. In the plain layout or the tagged one.
    #[must_use]
    pub fn sentinel<S: Into<String>>(
        master_name: impl Into<String>,
        sentinels: impl IntoIterator<Item = S>,
    ) -> Self {
        let watched = Some(Watched { name: master_name.into(), login: None });
        Self { urls: sentinels.into_iter().map(Into::into).collect(), watched, ..Self::new("") }
    }

    /// Who the program is at the master. Choose it where sentinels know other users than the servers, or
    /// none; without sentinels the URL says it.
    #[must_use]
    pub fn master_login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        if let Some(watched) = &mut self.watched {
            watched.login = Some((user.into(), password.into()));
        }
        self
    }

    /// A further node of the same Redis Cluster to begin with. Name two or three, so that a program
    /// can start while one of them is away; all others are found from them.
    #[must_use]
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// A node that says of itself to be at `advertised` (`host:port`) is reached at `reachable`. For
    /// a cluster or a watched master behind address translation or a proxy; one call for each node.
    #[must_use]
    pub fn address(mut self, advertised: impl Into<String>, reachable: impl Into<String>) -> Self {
        self.addresses.push((advertised.into(), reachable.into()));
        self
    }

    /// The names of keys. Choose [`Layout::Tagged`] for Redis Cluster, which refuses the plain one;
    /// a standalone server takes both. The first program settles it for the store; one that states the other is refused.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// What the program is going to do; default everything. Choose [`Access::ReadOnly`] for a program
    /// that only looks: a replica and a user without rights to write are fit for it, and its appends
    /// are refused by the server.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// How long an event id is remembered, so that a retried append is one event. Each
    /// id is remembered for at least this time and at most twice as long, by the log's own time (the larger
    /// of the server's clock and the last id issued). Longer when clients retry later than that.
    ///
    /// The store keeps it: the first program settles it, one hour if it states nothing. A program that states another one is
    /// refused when it connects; [`crate::EventStore::set_dedup_window`] changes it while programs run.
    ///
    /// An id costs about 9 bytes of memory while fewer than two million events are appended in two
    /// windows, and about 60 beyond. After it was forgotten the same id is a new event.
    #[must_use]
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.dedup_window = Some(window);
        self
    }

    /// The kinds that the program appends or looks up. They are settled when it connects, and a program whose lists differ
    /// from those that the store keeps is refused then; else at the first use of the kind. State them in every program
    /// that shall not start where it could not append.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// How long a single command may take before its answer is given up; default 5 s. Longer for a
    /// server behind a slow line.
    #[must_use]
    pub fn response_timeout(mut self, timeout: Duration) -> Self {
        self.response_timeout = timeout;
        self
    }

    /// Who is told what is appended and handled; default nobody.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// How long an append is retried by the library when answers are lost; default 10 s. After it the
    /// caller gets [`crate::AppendErrorKind::Unavailable`], also from a server that is connected and silent; the
    /// timeout of a [`Durability`] comes on top. The answer is late by what the machine needs to run a task, 50 ms
    /// where it is not overloaded. Longer where a failover takes longer, shorter where a caller can repeat by itself.
    #[must_use]
    pub fn append_deadline(mut self, deadline: Duration) -> Self {
        self.append_deadline = deadline;
        self
    }

    /// How many events, and how many bytes of keys and arguments as they are sent, one append or the outputs of one event may
    /// hold; default 5,000 events and 16 MiB. The server does nothing else during an append, so this bounds how long it can
    /// hold up everybody: at the default about 200 ms (Redis 7.0, one slow core). A state counts about twice: as JSON in
    /// the log and by its fields in the cache.
    ///
    /// More where large batches must be one step and nobody minds the pause; fewer where the server is slow. A batch
    /// beyond it is refused ([`crate::AppendErrorKind::TooLarge`]); an event whose handler returns one is parked.
    #[must_use]
    pub fn batch_limit(mut self, events: usize, bytes: usize) -> Self {
        self.batch_limit = BatchLimit { events, bytes };
        self
    }

    /// How long a read is repeated by the library while the server is away, starts or loses answers; default
    /// 10 s, so that a failover shows as a slow read and not as a failed one. After it the caller gets
    /// [`crate::ReadErrorKind::Unavailable`].
    ///
    /// Shorter than the time after which the caller's own caller gives up, divided by the reads of one request.
    /// A read that the server refuses (missing rights, a key of another type) is never repeated. It holds for
    /// each query of a read that is done in pages, such as a verification. [`crate::EventStore::ping`] and the
    /// pages of a replay or a tail are not repeated.
    #[must_use]
    pub fn read_deadline(mut self, deadline: Duration) -> Self {
        self.read_deadline = deadline.max(Duration::from_millis(1));
        self
    }

    /// What every append waits for unless it asks for something else
    /// ([`crate::EventStore::append_with`]); default [`Durability::None`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// A configuration ends up in logs, and what stands before an `@` in a URL does not belong there.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.urls.iter().map(|url| url.rsplit_once('@').map_or(url.as_str(), |(_, host)| host));
        f.debug_struct("Config")
            .field("urls", &hosts.collect::<Vec<_>>())
            .field("master", &self.watched.as_ref().map(|watched| &watched.name))
            .field("addresses", &self.addresses)
            .field("layout", &self.layout)
            .field("access", &self.access)
            .field("dedup_window", &self.dedup_window)
            .field("kinds", &self.kinds)
            .field("response_timeout", &self.response_timeout)
            .field("append_deadline", &self.append_deadline)
            .field("read_deadline", &self.read_deadline)
            .field("batch_limit", &self.batch_limit)
            .field("metrics", &self.metrics)
            .field("durability", &self.durability)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let shown = format!("{:?}", Config::new("redis://ada:se@cret@host:6379").node("redis://other:1"));
        assert!(shown.contains("host:6379") && shown.contains("redis://other:1"), "{shown}");
        assert!(!shown.contains("cret") && !shown.contains("ada"), "{shown}");
        let watched = Config::sentinel("ledger", ["redis://s:1"]).master_login("ada", "secret");
        let shown = format!("{watched:?}");
        assert!(shown.contains("ledger") && shown.contains("s:1") && !shown.contains("secret"), "{shown}");
    }
}
