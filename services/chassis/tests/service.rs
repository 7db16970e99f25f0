//! A service's life over real sockets.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::routing::{get, post};
use chassis::config::{CommonArgs, HttpArgs, RedisArgs};
use chassis::testing::{Redis, free_port};
use chassis::{App, BoxError, Context, RawJson, Running, Service};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const BOUND: Duration = Duration::from_secs(10);

fn service() -> Service {
    let common = CommonArgs {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        consumer: Some("test".to_owned()),
        log: "info".to_owned(),
        shutdown_seconds: 5,
    };
    Service::new("sample", common).with_http(HttpArgs { listen: "127.0.0.1:0".parse().unwrap() })
}

/// Serves routes without a Redis.
async fn serving(routes: Router) -> Running {
    let setup = async move |app: App| -> Result<(), BoxError> {
        app.serve(routes);
        Ok(())
    };
    let running = service().start(setup).await.unwrap();
    until_ready(&running).await;
    running
}

fn admin(running: &Running, path: &str) -> String {
    format!("http://{}{path}", running.admin())
}

fn api(running: &Running, path: &str) -> String {
    format!("http://{}{path}", running.api().unwrap())
}

async fn until_ready(running: &Running) {
    let deadline = Instant::now() + BOUND;
    loop {
        let answer = reqwest::get(admin(running, "/readyz")).await.unwrap();
        if answer.status() == 200 {
            return;
        }
        assert!(Instant::now() < deadline, "never ready: {}", answer.text().await.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn problem(answer: reqwest::Response) -> Value {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem
}

#[tokio::test]
async fn without_redis_a_service_is_alive_and_says_why_it_is_not_ready_and_comes_up_with_it() {
    let port = free_port();
    let redis = RedisArgs { redis_url: format!("redis://127.0.0.1:{port}") };
    let setup = async move |app: App| -> Result<(), BoxError> {
        let store = app.connect(&redis, []).await;
        app.serve(Router::new().route("/head", get(async move || store.head().await.unwrap().to_string())));
        Ok(())
    };
    let running = service().start(setup).await.unwrap();
    assert_eq!(reqwest::get(admin(&running, "/livez")).await.unwrap().status(), 200);
    let answer = reqwest::get(admin(&running, "/readyz")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let report: Value = answer.json().await.unwrap();
    assert_eq!(report["ready"], false);
    assert!(report["checks"].as_array().unwrap().iter().any(|check| check["name"] == "redis"), "{report}");
    let answer = reqwest::get(api(&running, "/head")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    problem(answer).await;

    let _redis = Redis::start_on(port);
    until_ready(&running).await;
    assert_eq!(reqwest::get(api(&running, "/head")).await.unwrap().text().await.unwrap(), "0-0");
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_route_is_a_problem() {
    let running = serving(Router::new().route("/order/{id}", get(async || "order"))).await;
    let answer = reqwest::get(api(&running, "/nothing")).await.unwrap();
    assert_eq!(problem(answer).await["status"], 404);
    let answer = reqwest::Client::new().post(api(&running, "/order/7")).send().await.unwrap();
    assert_eq!(answer.headers()["allow"], "GET,HEAD");
    assert_eq!(problem(answer).await["status"], 405);
    running.stop().await;
}

#[tokio::test]
async fn a_panic_is_one_failed_request_and_no_more() {
    async fn panics() {
        panic!("on purpose");
    }
    let routes = Router::new().route("/panic", get(panics)).route("/fine", get(async || "fine"));
    let running = serving(routes).await;
    let answer = reqwest::get(api(&running, "/panic")).await.unwrap();
    assert!(!problem(answer).await.to_string().contains("on purpose"));
    assert_eq!(reqwest::get(api(&running, "/fine")).await.unwrap().status(), 200);
    let metrics = reqwest::get(admin(&running, "/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"route="/panic",status="500"} 1"#), "{metrics}");
    running.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_from_the_caller_to_the_handler_and_back() {
    let routes = Router::new().route("/id", get(async |context: Context| context.request_id));
    let running = serving(routes).await;
    let client = reqwest::Client::new();
    let answer = client.get(api(&running, "/id")).header("x-request-id", "mine-1").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    assert_eq!(answer.text().await.unwrap(), "mine-1");
    let answer = client.get(api(&running, "/id")).send().await.unwrap();
    let given = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(answer.text().await.unwrap(), given);
    running.stop().await;
}

#[tokio::test]
async fn a_body_above_the_limit_gets_its_answer_even_while_it_is_being_sent() {
    let routes = Router::new().route("/", post(async |RawJson(value): RawJson| value.to_string()));
    let running = serving(routes).await;
    let body = vec![b' '; chassis::body::MAX_BODY_BYTES + 1];
    let answer = reqwest::Client::new().post(api(&running, "/")).body(body).send().await.unwrap();
    assert_eq!(problem(answer).await["status"], 413);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_answers_the_requests_in_flight_and_takes_no_new_ones() {
    let (entered, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (inside, wait) = (entered.clone(), leave.clone());
    let handler = async move || {
        inside.add_permits(1);
        wait.acquire().await.unwrap().forget();
        "done"
    };
    let running = serving(Router::new().route("/slow", get(handler)).route("/", get("here"))).await;
    let mut silent = BufStream::new(TcpStream::connect(running.api().unwrap()).await.unwrap());
    asked(&mut silent).await;
    let (url, ready) = (api(&running, "/slow"), admin(&running, "/readyz"));
    let in_flight = tokio::spawn(reqwest::get(url.clone()));
    entered.acquire().await.unwrap().forget();
    let stopping = tokio::spawn(running.stop());

    let deadline = Instant::now() + BOUND;
    while reqwest::get(&ready).await.unwrap().status() != 503 {
        assert!(Instant::now() < deadline, "ready while it stops");
    }
    while reqwest::Client::new().get(&url).timeout(Duration::from_millis(200)).send().await.is_ok() {
        assert!(Instant::now() < deadline, "still accepts");
    }
    // Who is silent holds nothing up, and who waits for an answer waits longer than that.
    assert_eq!(tokio::time::timeout(BOUND, silent.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert!(!in_flight.is_finished() && !stopping.is_finished());
    leave.add_permits(100);
    assert_eq!(in_flight.await.unwrap().unwrap().text().await.unwrap(), "done");
    tokio::time::timeout(BOUND, stopping).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_keeps_its_connection_through_a_stop_is_answered_and_told_to_leave() {
    let running = serving(Router::new().route("/", get("here"))).await;
    let at = running.api().unwrap();
    let mut kept = BufStream::new(TcpStream::connect(at).await.unwrap());
    assert!(!asked(&mut kept).await.contains("connection: close"));
    let stopping = tokio::spawn(running.stop());
    let deadline = Instant::now() + BOUND;
    while TcpStream::connect(at).await.is_ok() {
        assert!(Instant::now() < deadline, "still accepts");
    }
    let last = asked(&mut kept).await;
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last:?}");
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0, "the connection ends");
    tokio::time::timeout(BOUND, stopping).await.unwrap().unwrap();
}

/// The head of the answer, in small letters; the body is read.
async fn asked(connection: &mut BufStream<TcpStream>) -> String {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    connection.flush().await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(connection.read_line(&mut head).await.unwrap(), 0, "closed after {head:?}");
    }
    connection.read_exact(&mut [0; 4]).await.unwrap();
    head.to_lowercase()
}

#[tokio::test]
async fn a_task_that_ends_by_itself_ends_the_service() {
    let setup = async |app: App| -> Result<(), BoxError> {
        app.spawn("worker", async {});
        Ok(())
    };
    let mut running = service().start(setup).await.unwrap();
    assert_eq!(running.failed().await, "worker ended by itself");
    let setup = async |_: App| -> Result<(), BoxError> { Err("no such thing".into()) };
    let mut running = service().start(setup).await.unwrap();
    assert_eq!(running.failed().await, "set-up failed: no such thing");
}
