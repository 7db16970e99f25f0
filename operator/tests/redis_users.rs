//! What the operator writes for Redis, on a real Redis: each service does its work as its own user and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may end at once")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_store::{
    CancellationToken, Config, Event, EventStore, Handler, Kind, NewEvent, Outcome, Projection, Subscription,
    Write, testing::Redis,
};
use ordershop_operator::{
    controller::{
        build,
        passwords::{self, Passwords},
        sources::Sources,
        validate::{self, Defaults},
    },
    crd::{OrderShop, OrderShopSpec},
    rights::{ADMIN, READER},
};
use redis::{RedisResult, Value, aio::MultiplexedConnection};
use serde_json::json;

const CUSTOMER: Kind = Kind::new("customer");
const PRODUCT: Kind = Kind::new("product");
const INVENTORY: Kind = Kind::new("inventory").indexes(&["product_id"]);
const RESERVATION: Kind = Kind::within("inventory", "reservation");
const ORDER: Kind = Kind::new("order").lists(&["product_ids"]).indexes(&["customer_id"]);
const BILLING: Kind = Kind::new("billing").indexes(&["order_id"]);
const MAIL: Kind = Kind::new("mail");

/// Every stream of the shop, with who may append to it.
const STREAMS: [(Kind, &str, &[&str]); 12] = [
    (CUSTOMER, "created", &["customer"]),
    (CUSTOMER, "deleted", &["customer"]),
    (PRODUCT, "created", &["product"]),
    (INVENTORY, "created", &["inventory"]),
    (RESERVATION, "reserved", &["inventory"]),
    (RESERVATION, "rejected", &["inventory"]),
    (ORDER, "created", &["order"]),
    (ORDER, "updated", &["order"]),
    (BILLING, "created", &["billing"]),
    (MAIL, "requested", &["billing", "crm"]),
    (MAIL, "sent", &["notification"]),
    (MAIL, "failed", &["notification"]),
];

const SERVICES: [&str; 8] =
    ["customer", "product", "inventory", "order", "billing", "crm", "notification", "read-model"];

/// A Redis with the users that the operator makes.
struct Shop {
    redis: Redis,
    _folder: tempfile::TempDir,
    secret: BTreeMap<String, String>,
    edition: String,
}

fn random() -> impl FnMut() -> String {
    let mut count = 0;
    move || {
        count += 1;
        format!("{count:08}{}", "a".repeat(56))
    }
}

impl Shop {
    fn start(passwords: Passwords) -> Self {
        let mut shop = OrderShop::new("shop", OrderShopSpec::default());
        shop.metadata.namespace = Some("ns".to_owned());
        shop.metadata.uid = Some("uid".to_owned());
        let defaults =
            Defaults { registry: "r".to_owned(), version: "1".to_owned(), redis_image: "redis".to_owned() };
        let mut valid = validate::validate(&shop, &defaults, &Sources::default()).unwrap();
        let edition = passwords.newest.id.clone();
        valid.passwords = passwords;
        let secret = build::build(&valid).unwrap().secrets.remove(0).data.unwrap();
        let secret: BTreeMap<_, _> =
            secret.into_iter().map(|(key, value)| (key, String::from_utf8(value.0).unwrap())).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.acl");
        std::fs::write(&file, &secret["acl"]).unwrap();
        let redis = Redis::start_with(&[
            "--aclfile",
            file.to_str().unwrap(),
            "--appendfsync",
            "always",
            "--maxmemory-policy",
            "noeviction",
        ]);
        Self { redis, _folder: folder, secret, edition }
    }

    /// What stands in the Secret, at the place where Redis is here.
    fn url(&self, user: &str) -> String {
        let here = format!("127.0.0.1:{}", self.redis.port());
        self.secret[&passwords::key(user, &self.edition)].replace("shop-redis:6379", &here)
    }

    async fn store(&self, service: &str) -> EventStore {
        let store = EventStore::connect(Config::new(self.url(service))).await;
        store.unwrap_or_else(|error| panic!("{service}: {error}"))
    }

    async fn user(&self, user: &str) -> MultiplexedConnection {
        connect(&self.url(user)).await.unwrap()
    }
}

async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    // A busy machine answers late; the client's default is half a second.
    let patience = Some(std::time::Duration::from_secs(10));
    let patient =
        redis::AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&patient).await
}

async fn ask(connection: &mut MultiplexedConnection, command: &str) -> RedisResult<Value> {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    cmd.arg(words.collect::<Vec<_>>());
    cmd.query_async(connection).await
}

async fn is_denied(connection: &mut MultiplexedConnection, command: &str) -> bool {
    ask(connection, command).await.is_err_and(|error| error.code() == Some("NOPERM"))
}

fn body(id: &str) -> serde_json::Value {
    json!({"id": id, "name": "n", "product_id": "p1", "product_ids": ["p1", "p1"], "customer_id": "c1", "order_id": "o1"})
}

/// As the services make them: what concerns a customer is ordered with all of that customer's.
fn event(kind: Kind, action: &'static str, id: &str) -> NewEvent {
    let event = NewEvent::put(kind, action, id, &body(id));
    if [ORDER, BILLING, MAIL].contains(&kind) { event.ordered_with("customer/c1") } else { event }
}

/// Answers every event with one, or parks it.
struct Work {
    service: &'static str,
    answer: Option<(Kind, &'static str)>,
    handled: Arc<AtomicUsize>,
}

impl Handler for Work {
    async fn handle(&self, entry: &Event) -> Outcome {
        self.handled.fetch_add(1, Ordering::Relaxed);
        match self.answer {
            Some((kind, action)) => {
                let id = format!("{}-{}", self.service, entry.event_id);
                Outcome::Done(vec![event(kind, action, &id)])
            }
            None => Outcome::Park("for the test".to_owned()),
        }
    }
}

impl Shop {
    /// Handles what is in these streams as the service, until nothing is pending.
    async fn consume(
        &self,
        service: &'static str,
        streams: &[(Kind, &'static str)],
        answer: Option<(Kind, &'static str)>,
    ) {
        let streams: Vec<_> = streams.iter().map(|(kind, action)| kind.stream(action)).collect();
        let subscription = Subscription::new(service, "consumer-1")
            .streams(streams.clone())
            .claim_after(Duration::from_millis(100));
        let (handled, wanted) = (Arc::new(AtomicUsize::new(0)), streams.len());
        let cancel = CancellationToken::new();
        let consumer = self.store(service).await.subscribe(subscription);
        let task = tokio::spawn(
            consumer.run(Work { service, answer, handled: Arc::clone(&handled) }, cancel.clone()),
        );
        let admin = self.store(ADMIN).await;
        let finished = async {
            loop {
                let groups = admin.inspect().groups(&streams).await.unwrap();
                let group = groups.iter().find(|group| group.group == service);
                let done = |group: &event_store::inspect::Group| {
                    let streams = &group.streams;
                    streams.len() == wanted
                        && streams.iter().all(|one| one.pending == 0 && one.lag == Some(0))
                };
                if group.is_some_and(done) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let finished = tokio::time::timeout(Duration::from_secs(20), finished).await;
        assert!(finished.is_ok(), "{service} does not finish its events");
        cancel.cancel();
        task.await.unwrap().unwrap();
        assert!(handled.load(Ordering::Relaxed) >= streams.len(), "{service} handled too few events");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_does_its_work_as_its_own_user() {
    let shop = Shop::start(passwords::next(None, "", false, random()));

    for (kind, action, services) in STREAMS {
        for service in services {
            let id = format!("{}-{action}", &kind.name()[..1]);
            let appended = shop.store(service).await.append(vec![event(kind, action, &id)]).await;
            appended.unwrap_or_else(|error| panic!("{service} appends {}_{action}: {error}", kind.name()));
        }
    }

    let inventory = shop.store("inventory").await;
    shop.consume("inventory", &[(ORDER, "created"), (ORDER, "updated")], Some((RESERVATION, "reserved")))
        .await;
    assert!(inventory.entity(INVENTORY, "i-created").await.unwrap().is_some());
    assert_eq!(inventory.ids_where(INVENTORY, "product_id", "p1").await.unwrap(), ["i-created"]);

    let order = shop.store("order").await;
    let decisions = [(RESERVATION, "reserved"), (RESERVATION, "rejected"), (BILLING, "created")];
    shop.consume("order", &decisions, Some((ORDER, "updated"))).await;
    for (kind, id) in [(CUSTOMER, "c-created"), (PRODUCT, "p-created"), (BILLING, "b-created")] {
        assert!(order.entity(kind, id).await.unwrap().is_some(), "order looks {} up", kind.name());
    }
    assert_eq!(order.ids_where(BILLING, "order_id", "o1").await.unwrap(), ["b-created"]);

    let billing = shop.store("billing").await;
    shop.consume("billing", &[(ORDER, "created"), (BILLING, "created")], Some((MAIL, "requested"))).await;
    assert!(billing.entity(ORDER, "o-created").await.unwrap().is_some());

    shop.consume("crm", &[(CUSTOMER, "deleted")], None).await;
    shop.consume("crm", &[(CUSTOMER, "created"), (ORDER, "created")], Some((MAIL, "requested"))).await;
    shop.consume("notification", &[(MAIL, "requested")], Some((MAIL, "sent"))).await;

    let read_model = shop.store("read-model").await;
    let streams = STREAMS.map(|(kind, action, _)| kind.stream(action));
    let projection = Projection::new("read-model", 1).streams(streams);
    let projector = read_model.project(projection);
    let view = projector.view();
    let cancel = CancellationToken::new();
    let writes = |event: &Event| {
        vec![
            Write::HashSet {
                key: "all".to_owned(),
                field: event.event_id.to_string(),
                value: "1".to_owned(),
            },
            Write::SortedAdd { key: "ids".to_owned(), member: event.event_id.to_string(), score: 1.0 },
        ]
    };
    let task = tokio::spawn(projector.run(writes, cancel.clone()));
    view.wait_until(read_model.head().await.unwrap(), Duration::from_secs(10)).await.unwrap();
    assert!(view.sorted_range("ids", 0, 100).await.unwrap().len() >= STREAMS.len());
    cancel.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_denied_what_is_not_its_own() {
    let shop = Shop::start(passwords::next(None, "", false, random()));
    for service in SERVICES {
        let mut connection = shop.user(service).await;
        for command in [
            "FLUSHALL",
            "CONFIG GET *",
            "KEYS *",
            "ACL LIST",
            "SHUTDOWN NOSAVE",
            "FUNCTION LOAD x",
            "FUNCTION FLUSH",
            "CLIENT KILL ID 1",
            "MONITOR",
            "PUBLISH a b",
            "SET other 1",
            "EVAL return\u{a0}1 0",
        ] {
            assert!(is_denied(&mut connection, command).await, "{service}: {command}");
        }
        for (kind, action, writers) in STREAMS {
            let stream = kind.stream(action);
            let add = is_denied(&mut connection, &format!("XADD events:{stream} * f v")).await;
            assert_eq!(add, !writers.contains(&service), "{service}: {stream}");
            let delete = is_denied(&mut connection, &format!("DEL events:{stream}")).await;
            assert!(delete || writers.contains(&service), "{service} deletes {stream}");
        }
        for other in SERVICES.into_iter().filter(|other| *other != service) {
            let position = format!("HSET eventstore:group:{other}:positions f v");
            assert!(is_denied(&mut connection, &position).await, "{service}: the group of {other}");
        }
        for (kind, owner) in [("customer", "customer"), ("product", "product"), ("order", "order")] {
            let write = is_denied(&mut connection, &format!("HSET {kind}_entity:1 name x")).await;
            assert_eq!(write, service != owner, "{service} writes a {kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reader_reads_and_nobody_comes_in_without_a_password() {
    let shop = Shop::start(passwords::next(None, "", false, random()));
    let password = &shop.secret[&passwords::key(READER, &shop.edition)];
    let mut reader =
        connect(&format!("redis://{READER}:{password}@127.0.0.1:{}", shop.redis.port())).await.unwrap();
    for command in [
        "PING",
        "INFO",
        "TYPE customer_ids",
        "SMEMBERS customer_ids",
        "XRANGE events:order_created - +",
        "BGREWRITEAOF",
    ] {
        ask(&mut reader, command).await.unwrap();
    }
    for command in
        ["SET a b", "XADD events:order_created * f v", "FLUSHALL", "CONFIG GET *", "KEYS *", "EVAL x 0"]
    {
        assert!(is_denied(&mut reader, command).await, "{command}");
    }
    let mut nobody = connect(&shop.redis.url()).await;
    let refused = match &mut nobody {
        Ok(connection) => ask(connection, "PING").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    ask(&mut shop.user(ADMIN).await, "CONFIG GET maxmemory").await.unwrap();
    let admin = EventStore::connect(Config::new(shop.url(ADMIN))).await.unwrap();
    assert_eq!(admin.streams().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_editions_are_valid_during_a_rotation_and_the_old_one_is_not_afterwards() {
    let first = passwords::next(None, "", false, random());
    let both = passwords::next(Some(first.clone()), "again", true, || "b".repeat(64));
    let done = passwords::next(Some(both.clone()), "again", true, random());

    let shop = Shop::start(both.clone());
    let host = format!("127.0.0.1:{}", shop.redis.port());
    for edition in [&first.newest, &both.newest] {
        let url = passwords::value("crm", &edition.passwords["crm"], &host);
        EventStore::connect(Config::new(url)).await.unwrap();
        let pod = format!("crm.{}", edition.id);
        assert!(shop.secret.contains_key(&pod), "pods of both editions find their URL: {pod}");
    }

    let shop = Shop::start(done);
    let host = format!("127.0.0.1:{}", shop.redis.port());
    let url = |passwords: &Passwords| passwords::value("crm", &passwords.newest.passwords["crm"], &host);
    connect(&url(&both)).await.unwrap();
    assert!(connect(&url(&first)).await.is_err());
    assert!(!shop.secret.contains_key(&format!("crm.{}", first.newest.id)));
}

/// Redis loads its append-only file as the user `default`, whose rights it checks for what scripts wrote.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_wrote_is_there_when_redis_comes_back() {
    let mut shop = Shop::start(passwords::next(None, "", false, random()));
    let product = shop.store("product").await;
    let written = product.append(vec![event(PRODUCT, "created", "p1")]).await.unwrap();
    shop.redis.crash_and_restart();
    let product = shop.store("product").await;
    assert_eq!(product.head().await.unwrap(), written[0].id);
    assert!(product.entity(PRODUCT, "p1").await.unwrap().is_some());
}
