//! The gateway's program in front of real servers.
#![allow(clippy::unwrap_used)]

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chassis::testing::{Program, free_port};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const NAMES: [&str; 6] = ["customer", "product", "inventory", "order", "billing", "read-model"];

struct Gateway {
    program: Program,
    port: u16,
}

impl Gateway {
    /// A gateway in front of these ports, in the order of `NAMES`.
    fn start(ports: [u16; 6], more: &[&str]) -> Self {
        let port = free_port();
        let mut arguments = vec!["--listen".to_owned(), format!("127.0.0.1:{port}")];
        for (name, port) in NAMES.iter().zip(ports) {
            arguments.extend([format!("--{name}-url"), format!("http://127.0.0.1:{port}")]);
        }
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut program = Program::start(env!("CARGO_BIN_EXE_ordershop-gateway"), &arguments);
        program.until_ready();
        Self { program, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn send(&self, method: Method, path: &str, body: &str) -> reqwest::Response {
        reqwest::Client::new().request(method, self.url(path)).body(body.to_owned()).send().await.unwrap()
    }
}

/// A server that tells what it was asked.
async fn echo(name: &'static str) -> u16 {
    let handler = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        let text = |header: &str| headers.get(header).map(|value| value.to_str().unwrap().to_owned());
        Json(json!({
            "service": name, "method": method.as_str(), "uri": uri.to_string(),
            "body": String::from_utf8_lossy(&body), "request_id": text("x-request-id"),
            "traceparent": text("traceparent"),
        }))
    };
    serve(Router::new().fallback(handler)).await
}

async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn echoes() -> [u16; 6] {
    let mut ports = [0; 6];
    for (port, name) in ports.iter_mut().zip(NAMES) {
        *port = echo(name).await;
    }
    ports
}

async fn problem(answer: reqwest::Response) -> Value {
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem
}

#[tokio::test]
async fn every_classic_route_goes_to_its_service_as_it_came() {
    let gateway = Gateway::start(echoes().await, &[]);
    let mut table = vec![
        ("GET", "/orders/unbilled".to_owned(), "read-model"),
        ("GET", "/report".to_owned(), "read-model"),
    ];
    for (one, many) in [
        ("customer", "customers"),
        ("product", "products"),
        ("inventory", "inventory"),
        ("order", "orders"),
        ("billing", "billings"),
    ] {
        table.push(("GET", format!("/{many}?consistency=eventual"), "read-model"));
        table.push(("GET", format!("/{one}/a%20b"), "read-model"));
        table.push(("POST", format!("/{one}"), one));
        table.push(("POST", format!("/{many}"), one));
        table.push(("PUT", format!("/{one}/7"), one));
        table.push(("DELETE", format!("/{one}/7"), one));
    }
    for (method, path, service) in table {
        let answer = gateway.send(method.parse().unwrap(), &path, "{\"a\": 1}").await;
        assert_eq!(answer.status(), 200, "{method} {path}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let seen: Value = answer.json().await.unwrap();
        assert_eq!((&seen["service"], &seen["method"]), (&service.into(), &method.into()), "{method} {path}");
        assert_eq!((&seen["uri"], &seen["body"]), (&path.as_str().into(), &"{\"a\": 1}".into()));
    }
}

#[tokio::test]
async fn what_is_no_route_is_a_problem_of_the_gateway_itself() {
    let gateway = Gateway::start(echoes().await, &[]);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/order/7/lines", 404),
        ("GET", "/customer", 405),
        ("DELETE", "/orders", 405),
        ("PATCH", "/order/7", 405),
        ("POST", "/report", 405),
    ] {
        let answer = gateway.send(method.parse().unwrap(), path, "").await;
        assert_eq!(answer.headers().contains_key("allow"), status == 405, "{method} {path}");
        assert_eq!(problem(answer).await["status"], status, "{method} {path}");
    }
    let index = gateway.send(Method::GET, "/", "").await;
    assert_eq!(index.status(), 200);
    assert!(index.text().await.unwrap().contains("/orders/unbilled"));
}

#[tokio::test]
async fn a_request_id_and_a_trace_reach_the_service_and_the_id_comes_back() {
    let gateway = Gateway::start(echoes().await, &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let client = reqwest::Client::new();
    let request =
        client.get(gateway.url("/orders")).header("x-request-id", "mine").header("traceparent", trace);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine");
    let seen: Value = answer.json().await.unwrap();
    assert_eq!((&seen["request_id"], &seen["traceparent"]), (&"mine".into(), &trace.into()));
    let answer = client.get(gateway.url("/orders")).send().await.unwrap();
    let given = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(answer.json::<Value>().await.unwrap()["request_id"], given);
}

#[tokio::test]
async fn answers_come_back_as_they_are_status_and_headers() {
    let refuse =
        async || (StatusCode::CONFLICT, [("retry-after", "7"), ("x-more", "1")], "null").into_response();
    let mut ports = [free_port(); 6];
    ports[3] = serve(Router::new().fallback(refuse)).await;
    let gateway = Gateway::start(ports, &[]);
    let answer = gateway.send(Method::POST, "/orders", "[]").await;
    assert_eq!(answer.status(), 409);
    assert_eq!(
        (&answer.headers()["retry-after"], &answer.headers()["x-more"]),
        (&"7".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(answer.text().await.unwrap(), "null");
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_and_reaches_no_service() {
    let gateway = Gateway::start(echoes().await, &["--max-body-bytes", "1000"]);
    assert_eq!(gateway.send(Method::POST, "/customers", &" ".repeat(1000)).await.status(), 200);
    let answer = gateway.send(Method::POST, "/customers", &" ".repeat(1001)).await;
    assert_eq!(problem(answer).await["status"], 413);
    let large = gateway.send(Method::POST, "/customers", &" ".repeat(8_000_000)).await;
    assert_eq!(problem(large).await["status"], 413);
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_503_and_one_that_comes_back_is_found() {
    let port = free_port();
    let gateway = Gateway::start([port; 6], &[]);
    for method in [Method::GET, Method::POST] {
        let answer = gateway.send(method, "/customers", "[]").await;
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(problem(answer).await["status"], 503);
    }
    // It comes while the gateway is already trying.
    let waiting = tokio::spawn(reqwest::get(gateway.url("/customers")));
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(async || "[]")).await });
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_is_504() {
    let port = serve(Router::new().fallback(std::future::pending::<Response>)).await;
    let gateway = Gateway::start([port; 6], &["--upstream-timeout-ms", "300"]);
    let started = Instant::now();
    let answer = gateway.send(Method::POST, "/orders", "[]").await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let problem = problem(answer).await;
    assert_eq!(problem["status"], 504);
    assert!(problem["detail"].as_str().unwrap().contains("unknown"), "{problem}");
}

/// A server that reads each request and closes without an answer, until it has done so `times`.
async fn breaking_off(times: usize) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap_or(0) == 0 {
                continue;
            }
            if count.fetch_add(1, Ordering::SeqCst) >= times {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull").await;
            }
        }
    });
    (port, seen)
}

#[tokio::test]
async fn a_query_whose_answer_was_lost_is_asked_again_and_a_command_never_is() {
    let (port, seen) = breaking_off(1).await;
    let gateway = Gateway::start([port; 6], &[]);
    assert_eq!(gateway.send(Method::GET, "/order/7", "").await.text().await.unwrap(), "null");
    assert_eq!(seen.load(Ordering::SeqCst), 2);

    let (port, seen) = breaking_off(usize::MAX).await;
    let gateway = Gateway::start([port; 6], &[]);
    let answer = gateway.send(Method::POST, "/orders", "[]").await;
    assert_eq!(problem(answer).await["status"], 502);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_loses_no_command() {
    // Answers one request a connection, then closes it without having said that it will.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue").await;
        }
    });
    let gateway = Gateway::start([port; 6], &[]);
    for _ in 0..50 {
        assert_eq!(gateway.send(Method::PUT, "/order/7", "{}").await.text().await.unwrap(), "true");
    }
}

#[test]
fn it_is_ready_within_200_ms_of_its_start() {
    let start = || {
        let started = Instant::now();
        let _gateway = Gateway::start([free_port(); 6], &[]);
        started.elapsed()
    };
    // The best of some: a busy machine makes any one of them slow.
    let best = (0..10).map(|_| start()).min().unwrap();
    assert!(best < Duration::from_millis(200), "{best:?}");
}

#[tokio::test]
async fn sigterm_ends_it_after_the_request_in_flight() {
    let (entered, leave) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (inside, wait) = (entered.clone(), leave.clone());
    let slow = async move |_: Request| {
        inside.add_permits(1);
        wait.acquire().await.unwrap().forget();
        "[]"
    };
    let port = serve(Router::new().fallback(slow)).await;
    let mut gateway = Gateway::start([port; 6], &[]);
    let in_flight = tokio::spawn(reqwest::get(gateway.url("/orders")));
    entered.acquire().await.unwrap().forget();
    gateway.program.terminate();
    gateway.program.until_logged("stopping");
    leave.add_permits(1);
    assert_eq!(in_flight.await.unwrap().unwrap().text().await.unwrap(), "[]");
    assert_eq!(gateway.program.ended().code(), Some(0), "{}", gateway.program.log());
}

#[tokio::test]
async fn a_second_signal_or_the_bound_ends_it_with_a_failure_and_a_line_that_says_so() {
    let entered = Arc::new(Semaphore::new(0));
    let inside = entered.clone();
    let stuck = async move || {
        inside.add_permits(1);
        std::future::pending::<Response>().await
    };
    let stuck = serve(Router::new().fallback(stuck)).await;
    for (bound, line, twice) in [("60", "asked again", true), ("1", "not stopped within the bound", false)] {
        let mut gateway = Gateway::start([stuck; 6], &["--shutdown-seconds", bound]);
        let _in_flight = tokio::spawn(reqwest::get(gateway.url("/orders")));
        entered.acquire().await.unwrap().forget();
        gateway.program.terminate();
        gateway.program.until_logged("stopping");
        if twice {
            gateway.program.terminate();
        }
        assert_eq!(gateway.program.ended().code(), Some(1));
        assert!(gateway.program.log().contains(line), "{}", gateway.program.log());
    }
}
