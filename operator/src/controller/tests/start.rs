//! What an operator does before there is anything to do.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::json;
use tower::BoxError;

use crate::controller::{scope::Scope, wait_for_crd};

#[tokio::test]
async fn an_operator_that_is_there_before_its_crd_waits_and_says_so() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = tower::service_fn(move |request: Request<Body>| {
        assert_eq!(request.uri().path(), "/apis/ordershop.dev/v1alpha1/namespaces/ns/ordershops");
        let (code, body) = if count.fetch_add(1, Ordering::Relaxed) == 0 {
            // As a real one answers for a kind that it does not know.
            (404, b"404 page not found\n".to_vec())
        } else {
            let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"resourceVersion": "1"}, "items": []});
            (200, list.to_string().into_bytes())
        };
        let answer = Response::builder().status(code).body(Body::from(body)).unwrap();
        async move { Ok::<_, BoxError>(answer) }
    });
    let said = Mutex::new(Vec::new());
    let scope = Scope::of(&["ns".to_owned()]);
    wait_for_crd(&Client::new(server, "ns"), &scope, |why| said.lock().unwrap().push(why.to_owned())).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(*said.lock().unwrap(), ["waits for the CustomResourceDefinition ordershops.ordershop.dev"]);
}
