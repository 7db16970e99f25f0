//! The notification service's program between a real Redis and a real SMTP server.
#![allow(clippy::unwrap_used)]

use chassis::testing::{Program, Redis, free_port};
use chassis::{events, kinds};
use domain::{Mail, MailKind};
use event_store::{Config, EntityType, Event, EventStore, Id};
use serde_json::Value;
use std::fs::File;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BOUND: Duration = Duration::from_secs(20);

/// A running SMTP server; ended when dropped.
struct Smtp {
    process: Child,
    folder: TempDir,
}

impl Smtp {
    fn start_on(port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_server.py");
        let process = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(File::create(folder.path().join("messages")).unwrap())
            .stderr(File::create(folder.path().join("errors")).unwrap())
            .spawn()
            .expect("/usr/bin/python3 is needed, of the Debian package python3");
        let mut smtp = Self { process, folder };
        let deadline = Instant::now() + BOUND;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let errors = std::fs::read_to_string(smtp.folder.path().join("errors")).unwrap();
            let missing = "the SMTP server does not start; it needs the Debian package python3-aiosmtpd";
            assert!(
                smtp.process.try_wait().unwrap().is_none() && Instant::now() < deadline,
                "{missing}\n{errors}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        smtp
    }

    fn messages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("messages")).unwrap();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    async fn until_messages(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + BOUND;
        loop {
            let messages = self.messages();
            if messages.len() >= count {
                return messages;
            }
            assert!(Instant::now() < deadline, "not {count} messages: {messages:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Shop {
    redis: Redis,
    store: EventStore,
}

impl Shop {
    async fn start() -> Self {
        let redis = Redis::start();
        let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
        Self { redis, store }
    }

    fn notification(&self, more: &[&str]) -> Program {
        let url = self.redis.url();
        let arguments = [&["--redis-url", url.as_str(), "--consumer", "pod"], more].concat();
        let mut program = Program::start(env!("CARGO_BIN_EXE_ordershop-notification"), &arguments);
        program.until_ready();
        program
    }

    async fn request(&self, id: &str, to: &str, body: &str) {
        let mail = Mail {
            id: id.to_owned(),
            kind: MailKind::Welcome,
            to: to.to_owned(),
            customer_id: format!("customer of {to}"),
            subject: format!("Subject of {id}"),
            body: body.to_owned(),
            error: None,
        };
        self.store.append(vec![events::Mails::put("requested", &mail)]).await.unwrap();
    }

    /// The first events of a stream, as many as asked for.
    async fn until(&self, action: &'static str, count: usize) -> Vec<Event> {
        let mut tail = self.store.tail(vec![kinds::MAIL.stream(action)], Id::ZERO);
        let mut events = Vec::new();
        while events.len() < count {
            let next = tokio::time::timeout(BOUND, tail.next()).await;
            events.extend(next.unwrap_or_else(|_| panic!("only {} mail_{action}", events.len())).unwrap());
        }
        events
    }
}

fn url(port: u16) -> String {
    format!("smtp://127.0.0.1:{port}")
}

#[tokio::test]
async fn without_a_server_a_mail_is_written_to_the_log_and_counts_as_sent() {
    let shop = Shop::start().await;
    let mut program = shop.notification(&[]);
    shop.request("m1", "ann@example.org", "Dear Ann!\nWelcome to Ordershop.\nCheers").await;
    let sent = shop.until("sent", 1).await;
    assert_eq!((sent[0].entity_id.as_str(), sent[0].version), ("m1", 2));
    let log = program.log();
    let line = log.lines().find(|line| line.contains(r#""message":"mail""#)).expect(&log);
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["to"], "ann@example.org");
    assert_eq!(line["body"], "Dear Ann!\nWelcome to Ordershop.\nCheers");
    assert_eq!(line["message_id"], "<m1@example.com>");
    assert_eq!((&line["service"], &line["consumer"]), (&"notification".into(), &"pod".into()));
    program.terminate();
    assert_eq!(program.ended().code(), Some(0), "{}", program.log());
}

#[tokio::test]
async fn a_mail_reaches_the_server_as_it_was_requested() {
    let (shop, port) = (Shop::start().await, free_port());
    let smtp = Smtp::start_on(port);
    let _program = shop.notification(&["--smtp-url", &url(port), "--mail-from", "shop@ordershop.test"]);
    shop.request("m1", "ann@example.org", "Dear Änn!\n.\nPlease transfer € 12.50\nCheers").await;
    shop.until("sent", 1).await;
    let messages = smtp.messages();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(message["from"], "shop@ordershop.test");
    assert_eq!(message["to"], serde_json::json!(["ann@example.org"]));
    assert_eq!(message["id"], "<m1@ordershop.test>");
    assert_eq!(message["subject"], "Subject of m1");
    let body = message["body"].as_str().unwrap().replace("\r\n", "\n");
    assert_eq!(body.trim_end(), "Dear Änn!\n.\nPlease transfer € 12.50\nCheers");
}

#[tokio::test]
async fn a_refused_recipient_is_a_failed_mail_and_stops_no_other() {
    let (shop, port) = (Shop::start().await, free_port());
    let smtp = Smtp::start_on(port);
    let _program = shop.notification(&["--smtp-url", &url(port)]);
    shop.request("m1", "refused@example.org", "x").await;
    shop.request("m2", "ann@example.org", "x").await;
    shop.request("m3", "no address", "x").await;
    let failed = shop.until("failed", 2).await;
    let error = |id: &str| {
        let event = failed.iter().find(|event| event.entity_id == id).unwrap();
        event.entity["error"].as_str().unwrap().to_owned()
    };
    assert!(error("m1").contains("550") || error("m1").contains("no such mailbox"), "{}", error("m1"));
    assert!(error("m3").contains("no address"), "{}", error("m3"));
    let sent = shop.until("sent", 1).await;
    assert_eq!(sent.iter().map(|event| event.entity_id.as_str()).collect::<Vec<_>>(), ["m2"]);
    assert_eq!(smtp.messages().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_busy_or_down_delays_a_mail_and_loses_none() {
    let (shop, port) = (Shop::start().await, free_port());
    let mut program = shop.notification(&["--smtp-url", &url(port)]);
    shop.request("m1", "ann@example.org", "x").await;
    program.until_logged("mail not delivered");
    let smtp = Smtp::start_on(port);
    shop.request("m2", "busy@example.org", "x").await;
    let sent = shop.until("sent", 2).await;
    let mut ids: Vec<&str> = sent.iter().map(|event| event.entity_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["m1", "m2"]);
    assert_eq!(smtp.until_messages(2).await.len(), 2);
}

#[tokio::test]
async fn a_mail_that_went_out_as_the_process_was_killed_is_recognised_and_sent_once_in_the_log() {
    let (shop, port) = (Shop::start().await, free_port());
    let smtp = Smtp::start_on(port);
    let mut program = shop.notification(&["--smtp-url", &url(port)]);
    shop.request("m1", "slow@example.org", "x").await;
    // The server has kept it; its answer does not come.
    smtp.until_messages(1).await;
    program.kill();
    let _again = shop.notification(&["--smtp-url", &url(port)]);
    let sent = shop.until("sent", 1).await;
    assert_eq!((sent.len(), sent[0].version), (1, 2));
    let messages = smtp.until_messages(2).await;
    assert_eq!(messages[0]["id"], messages[1]["id"]);
    assert_eq!(messages[0]["id"], "<m1@example.com>");
}
