//! The server's loop: accepts connections until it is told to stop, then lets those in flight
//! finish. Knows nothing of routes.
//!
//! A connection that is closed between two requests is closed under the next one, if a client sends that at this
//! moment. So with the stop each answer says that it is the connection's last, and only a connection
//! that stays silent for a while then is closed without such a word.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A client that has not sent a request's head by then, or keeps a connection idle for longer, is
/// cut off. Longer than clients of ours keep idle connections, so that they close first.
const HEAD_BOUND: Duration = Duration::from_secs(30);

/// After an error of accept (such as no file descriptors left) there is something to wait for.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stopping`, then returns when the last request in flight is answered and clients that keep a
/// connection have left it, or have not used it for `silence`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stopping: CancellationToken,
    silence: Duration,
) {
    let router = router.layer(from_fn_with_state(stopping.clone(), say_the_last));
    let (graceful, connections) = (GracefulShutdown::new(), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without it small answers wait for the client's acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_BOUND)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let watched = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    // What is left then is silent, or in the middle of a request, which ends its connection by itself.
    let _ = tokio::time::timeout(silence, connections.wait()).await;
    graceful.shutdown().await;
}

async fn say_the_last(State(stopping): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    if stopping.is_cancelled() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
