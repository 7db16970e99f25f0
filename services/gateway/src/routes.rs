//! The classic routes: which path and method goes to which service. A table; the forwarding is
//! elsewhere.

use crate::forward::Forwarder;
use crate::upstream::{Upstream, Upstreams};
use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use chassis::Context;

/// One path: which service answers which method there.
struct Route {
    path: String,
    methods: Vec<(MethodFilter, Upstream)>,
}

/// The entities' names, singular and plural.
const ENTITIES: [(&str, &str); 5] = [
    ("customer", "customers"),
    ("product", "products"),
    ("inventory", "inventory"),
    ("order", "orders"),
    ("billing", "billings"),
];

fn table(services: &Upstreams) -> Vec<Route> {
    let reads = || (MethodFilter::GET, services.read_model.clone());
    let mut routes = vec![
        Route { path: "/orders/unbilled".to_owned(), methods: vec![reads()] },
        Route { path: "/report".to_owned(), methods: vec![reads()] },
    ];
    let owners =
        [&services.customer, &services.product, &services.inventory, &services.order, &services.billing];
    for ((one, many), owner) in ENTITIES.into_iter().zip(owners) {
        let owned = |method| (method, owner.clone());
        routes.push(Route { path: format!("/{many}"), methods: vec![reads(), owned(MethodFilter::POST)] });
        if one != many {
            routes.push(Route { path: format!("/{one}"), methods: vec![owned(MethodFilter::POST)] });
        }
        routes.push(Route {
            path: format!("/{one}/{{id}}"),
            methods: vec![reads(), owned(MethodFilter::PUT), owned(MethodFilter::DELETE)],
        });
    }
    routes
}

/// The gateway's router.
pub(crate) fn router(services: &Upstreams, forwarder: &Forwarder) -> Router {
    let mut router = Router::new().route("/", get(index));
    for route in table(services) {
        let methods = route.methods.into_iter().fold(MethodRouter::new(), |methods, (method, upstream)| {
            let forwarder = forwarder.clone();
            let forward = async move |context: Context, request: Request| {
                forwarder.forward(&upstream, &context, request).await
            };
            methods.merge(on(method, forward))
        });
        router = router.route(&route.path, methods);
    }
    router
}

async fn index() -> String {
    let mut text = String::from("OrderShop\n\n");
    let both = [Method::GET, Method::POST];
    let each = [Method::GET, Method::PUT, Method::DELETE];
    for (one, many) in ENTITIES {
        text.push_str(&line(&both, &format!("/{many}")));
        text.push_str(&line(&each, &format!("/{one}/ID")));
    }
    text.push_str(&line(&[Method::GET], "/orders/unbilled"));
    text.push_str(&line(&[Method::GET], "/report"));
    text
}

fn line(methods: &[Method], path: &str) -> String {
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    format!("{:<18}{path}\n", methods.join(" "))
}
