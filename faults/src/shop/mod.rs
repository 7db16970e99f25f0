//! A whole shop of processes: the nine services as users run them, Redis, a mail server. It starts, ends and
//! signals them; what is done to it when is decided elsewhere.

mod ports;
mod process;
mod redis;
mod sink;

pub use process::Process;
pub use redis::Redis;
pub use sink::Sink;

use crate::schedule::{Fsync, SERVICES};
use anyhow::{Context, Result, bail};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The services that the gateway forwards to.
const FORWARDED: [&str; 6] = ["customer", "product", "inventory", "order", "billing", "read-model"];
/// The most replicas of one service.
pub const REPLICAS: usize = 4;

/// The services that there is a next version of: the one that writes reservations, the one that reads them.
pub const NEXT: [&str; 2] = ["inventory", "order"];

/// One replica's place: its ports stay, its processes come and go.
#[derive(Debug)]
struct Place {
    service: &'static str,
    admin: u16,
    http: u16,
    /// Its consumer's name changes when it comes back as another one.
    life: u32,
    /// Its next process is of the next version.
    next: bool,
    process: Option<Process>,
}

/// A running shop.
#[derive(Debug)]
pub struct Shop {
    /// Its Redis.
    pub redis: Redis,
    /// Its mail server.
    pub sink: Sink,
    places: Vec<Place>,
    /// Where services look for Redis.
    redis_url: String,
    binaries: PathBuf,
    folder: PathBuf,
    http: reqwest::Client,
}

impl Shop {
    /// Starts Redis and the mail server in this folder; the services come with [`Shop::open`]. Their programs
    /// lie in `binaries`, those of their next version in its folder `next`.
    pub async fn start(binaries: &Path, folder: &Path, fsync: Fsync) -> Result<Self> {
        let ports = ports::free(2 + 2 * SERVICES.len() * REPLICAS)?;
        let (own, rest) = ports.split_at(2);
        let data = folder.join("redis");
        std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let redis = Redis::start(own[0], &data, fsync).await?;
        let sink = Sink::start((Ipv4Addr::LOCALHOST, own[1]).into(), folder).await?;
        let each = SERVICES.iter().flat_map(|service| [*service; REPLICAS]);
        let places = each.zip(rest.chunks_exact(2)).map(|(service, ports)| Place {
            service,
            admin: ports[0],
            http: ports[1],
            life: 0,
            next: false,
            process: None,
        });
        Ok(Self {
            redis_url: redis.url(),
            redis,
            sink,
            places: places.collect(),
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?,
        })
    }

    /// From now on services that start look for Redis here.
    pub fn set_redis_url(&mut self, url: String) {
        self.redis_url = url;
    }

    /// Starts one replica of each service and waits until all are ready.
    pub async fn open(&mut self) -> Result<()> {
        for service in SERVICES {
            self.up(service, 0)?;
        }
        self.until_ready().await
    }

    /// Where clients go.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port("gateway"))
    }

    fn http_port(&self, service: &str) -> u16 {
        self.places.iter().find(|place| place.service == service).map_or(0, |place| place.http)
    }

    fn index(&self, service: &str, replica: usize) -> Result<usize> {
        let found = self.places.iter().enumerate().filter(|(_, place)| place.service == service);
        found.map(|(index, _)| index).nth(replica).with_context(|| format!("no place {service} {replica}"))
    }

    /// Starts a replica that does not run.
    pub fn up(&mut self, service: &str, replica: usize) -> Result<()> {
        let index = self.index(service, replica)?;
        let (env, place) = (self.settings(index), &self.places[index]);
        let folder = if place.next { self.binaries.join("next") } else { self.binaries.clone() };
        let program = folder.join(format!("ordershop-{service}")).display().to_string();
        let name = format!("{service}-{replica}");
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::start(&name, &[&program], &[], &env, &log)?;
        debug_assert!(place.process.is_none(), "{name} runs already");
        self.places[index].process = Some(process);
        Ok(())
    }

    /// From now on the processes of this service that start are of the next version.
    pub fn upgrade(&mut self, service: &str) {
        self.places.iter_mut().filter(|place| place.service == service).for_each(|place| place.next = true);
    }

    /// The next process in this place has another consumer's name.
    pub fn rename(&mut self, service: &str, replica: usize) -> Result<()> {
        let index = self.index(service, replica)?;
        self.places[index].life += 1;
        Ok(())
    }

    /// Takes a replica's process out of its place, to end it.
    pub fn take(&mut self, service: &str, replica: usize) -> Result<Process> {
        let index = self.index(service, replica)?;
        self.places[index].process.take().with_context(|| format!("{service} {replica} does not run"))
    }

    /// A replica's process.
    pub fn process(&self, service: &str, replica: usize) -> Result<&Process> {
        let index = self.index(service, replica)?;
        self.places[index].process.as_ref().with_context(|| format!("{service} {replica} does not run"))
    }

    /// Processes that ended though nobody ended them.
    pub fn crashed(&mut self) -> Vec<String> {
        let places = self.places.iter_mut();
        let gone = |place: &mut Place| {
            let ended = place.process.as_mut().is_some_and(|process| !process.runs());
            ended.then(|| place.service.to_owned())
        };
        places.filter_map(gone).collect()
    }

    /// Waits until all that run say that they are ready.
    pub async fn until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let missing = self.not_ready().await;
            if missing.is_empty() {
                return Ok(());
            }
            if let [service, ..] = self.crashed().as_slice() {
                bail!("{service} ended by itself; its log is in {}", self.folder.display());
            }
            if Instant::now() > deadline {
                bail!("not ready within {READY_WITHIN:?}: {}", missing.join("; "));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn not_ready(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for place in self.places.iter().filter(|place| place.process.is_some()) {
            let url = format!("http://127.0.0.1:{}/readyz", place.admin);
            match self.http.get(&url).send().await {
                Ok(answer) if answer.status() == 200 => {}
                Ok(answer) => {
                    missing.push(format!("{}: {}", place.service, answer.text().await.unwrap_or_default()));
                }
                Err(error) => missing.push(format!("{}: {error}", place.service)),
            }
        }
        missing
    }

    /// Ends all services by SIGTERM.
    pub async fn close(&mut self) -> Result<()> {
        let processes: Vec<Process> =
            self.places.iter_mut().filter_map(|place| place.process.take()).collect();
        for process in processes {
            process.terminate().await?;
        }
        Ok(())
    }

    fn settings(&self, index: usize) -> Vec<(String, String)> {
        let place = &self.places[index];
        let loopback = |port: u16| format!("127.0.0.1:{port}");
        let consumer = format!("{}-{index}-{}", place.service, place.life);
        let mut env = vec![
            ("ORDERSHOP_REDIS_URL", self.redis_url.clone()),
            ("ORDERSHOP_ADMIN_LISTEN", loopback(place.admin)),
            ("ORDERSHOP_CONSUMER", consumer),
        ];
        match place.service {
            "gateway" => env.push(("ORDERSHOP_LISTEN", loopback(place.http))),
            "notification" => env.push(("ORDERSHOP_SMTP_URL", self.sink.url())),
            service if FORWARDED.contains(&service) => env.push(("ORDERSHOP_LISTEN", loopback(place.http))),
            _ => {}
        }
        let mut env: Vec<(String, String)> =
            env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if place.service == "gateway" {
            env.extend(FORWARDED.iter().map(|service| {
                let name = format!("ORDERSHOP_{}_URL", service.to_uppercase().replace('-', "_"));
                (name, format!("http://{}", loopback(self.http_port(service))))
            }));
        }
        env
    }
}
