//! One trace from a caller through the gateway, a service, the event store on a real Redis and a handler; and a
//! collector that is not there.
#![allow(clippy::unwrap_used)]

use chassis::kinds::MAIL;
use chassis::testing::{Program, Redis, free_port};
use chassis::{App, BoxError, Running, Service};
use clap::Parser;
use event_store::{Config, EventStore};
use std::future::Future;
use std::time::{Duration, Instant};
use telemetry::testing::{Collector, Span};
use telemetry::{Settings, Traces};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const BOUND: Duration = Duration::from_secs(20);
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

struct Gateway {
    program: Program,
    port: u16,
}

/// A gateway in front of one port, with these variables.
fn gateway(customer: u16, environment: &[(&str, &str)]) -> Gateway {
    let port = free_port();
    let mut arguments = vec![format!("--listen=127.0.0.1:{port}"), "--log=info,chassis=debug".to_owned()];
    for name in ["customer", "product", "inventory", "order", "billing", "read-model"] {
        arguments.push(format!("--{name}-url=http://127.0.0.1:{customer}"));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut program = Program::start_with(env!("CARGO_BIN_EXE_ordershop-gateway"), &arguments, environment);
    program.until_ready();
    Gateway { program, port }
}

impl Gateway {
    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn start<F, Fut>(service: Service, setup: F) -> Running
where
    F: FnOnce(App) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let running = service.start(setup).await.unwrap();
    let deadline = Instant::now() + BOUND;
    let ready = format!("http://{}/readyz", running.admin());
    while reqwest::get(&ready).await.unwrap().status() != 200 {
        assert!(Instant::now() < deadline, "never ready");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running
}

fn arguments(redis: &Redis, more: &[&str]) -> Vec<String> {
    let words = ["test", "--admin-listen=127.0.0.1:0", "--consumer=test"].iter().chain(more);
    let redis = format!("--redis-url={}", redis.url());
    words.map(|&word| word.to_owned()).chain([redis]).collect()
}

/// The services that run in this process send their spans there.
fn send_spans(collector: &Collector) -> Traces {
    let settings = Settings::read(|name| (name == ENDPOINT).then(|| collector.endpoint()));
    let own = &["ordershop", "chassis", "event_store"];
    let program = telemetry::Program { name: "services", version: "1", instance: "1", own };
    let traces = Traces::start(&program, settings.unwrap().unwrap(), &Handle::current());
    tracing_subscriber::registry().with(traces.layer()).init();
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_a_caller_through_the_services_and_the_event_to_what_it_causes() {
    let collector = Collector::start().await;
    let _traces = send_spans(&collector);
    let redis = Redis::start();
    let args = ordershop_customer::Args::parse_from(arguments(&redis, &["--listen=127.0.0.1:0"]));
    let customer = start(args.service(), |app| ordershop_customer::setup(app, args)).await;
    let args = ordershop_crm::Args::parse_from(arguments(&redis, &[]));
    let crm = start(args.service(), |app| ordershop_crm::setup(app, args)).await;
    let gateway = gateway(customer.api().unwrap().port(), &[(ENDPOINT, &collector.endpoint())]);

    let request = reqwest::Client::new().post(gateway.url("/customers")).header("traceparent", CALLER);
    let answer = request.body(r#"{"name": "Ann", "email": "ann@example.com"}"#).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    let trace = &CALLER[3..35];
    let until = async |service: &str, name: &str| {
        let wanted = |span: &Span| span.trace == trace && span.service == service && span.name == name;
        collector.until(&format!("{service}: {name}"), wanted).await
    };
    let edge = until("ordershop-gateway", "POST /customers").await;
    let request = until("services", "POST /customers").await;
    let append = until("services", "append").await;
    let handle = until("services", "handle").await;
    assert_eq!(edge.parent, CALLER[36..52], "{edge:#?}");
    assert_eq!(request.parent, edge.id, "{request:#?}");
    assert_eq!(append.parent, request.id, "{append:#?}");
    assert_eq!(handle.parent, request.id, "{handle:#?}");
    assert_eq!(append.attributes["stream"], "customer_created");
    assert_eq!(handle.attributes["stream"], "customer_created");
    for span in [&edge, &request] {
        assert_eq!(span.attributes["http.response.status_code"], "200");
        assert_eq!(span.attributes["http.route"], "/customers");
        assert_eq!(span.attributes["http.request.method"], "POST");
        assert!(!span.failed);
    }
    assert_eq!(edge.attributes["request_id"], request.attributes["request_id"]);

    let store = EventStore::connect(Config::new(redis.url())).await.unwrap();
    let mut asked = Vec::new();
    store.replay(&[MAIL.stream("requested")], |event| asked.push(event.traceparent)).await.unwrap();
    assert_eq!(asked, [Some(format!("00-{trace}-{}-01", handle.id))], "the mail continues from its handler");

    let log = gateway.program.log();
    let line =
        log.lines().find(|line| line.contains(r#""message":"request""#) && line.contains("/customers"));
    assert!(line.unwrap().contains(&format!(r#""trace_id":"{trace}""#)), "{log}");
    let probes = collector.spans().into_iter().filter(|span| span.name.contains("readyz")).count();
    assert_eq!(probes, 0, "probes are no requests of the shop");
    crm.stop().await;
    customer.stop().await;
}

#[tokio::test]
async fn without_its_collector_a_service_answers_counts_what_is_lost_and_ends_within_its_bound() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut gateway = gateway(free_port(), &[(ENDPOINT, &nobody)]);
    assert_eq!(reqwest::get(gateway.url("/")).await.unwrap().status(), 200);
    gateway.program.until_logged("spans are lost on the way to the collector");
    let metrics =
        reqwest::get(format!("http://127.0.0.1:{}/metrics", gateway.program.admin())).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("ordershop_spans_lost_total 1\n"), "{metrics}");
    gateway.program.terminate();
    assert!(gateway.program.ended().success(), "{}", gateway.program.log());
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_keep_a_service_from_ending() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let mut gateway = gateway(free_port(), &[(ENDPOINT, &endpoint)]);
    assert_eq!(reqwest::get(gateway.url("/")).await.unwrap().status(), 200);
    let began = Instant::now();
    gateway.program.terminate();
    let ended = tokio::task::spawn_blocking(move || (gateway.program.ended(), gateway.program.log()));
    let (status, log) = ended.await.unwrap();
    assert!(status.success(), "{log}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(log.contains("the last spans did not reach the collector"), "{log}");
}

#[test]
fn an_address_that_is_none_is_told_at_the_start_with_what_to_change() {
    let mut program = Program::start_with(
        env!("CARGO_BIN_EXE_ordershop-gateway"),
        &arguments_of_nowhere(),
        &[(ENDPOINT, "otel:4317")],
    );
    assert_eq!(program.ended().code(), Some(2));
    let log = program.log();
    assert!(log.contains(ENDPOINT) && log.contains("set it to http://host:4318"), "{log}");
}

fn arguments_of_nowhere() -> [&'static str; 6] {
    [
        "--customer-url=http://a:1",
        "--product-url=http://a:1",
        "--inventory-url=http://a:1",
        "--order-url=http://a:1",
        "--billing-url=http://a:1",
        "--read-model-url=http://a:1",
    ]
}
