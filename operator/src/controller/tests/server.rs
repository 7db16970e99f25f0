//! An API server in memory, as much of it as a reconciliation uses. It records every request, so that a test can
//! say exactly which were made.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// The server. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Each object by its path.
    objects: BTreeMap<String, Value>,
    requests: Vec<String>,
    /// Paths whose writes are refused, and how.
    refused: BTreeMap<String, (u16, Value)>,
    /// Kinds that are not installed.
    unknown: Vec<String>,
    version: u64,
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let server = self.clone();
        tokio::spawn(async move {
            while let Some((request, reply)) = handle.next_request().await {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = server.state().answer(parts.method.as_str(), &parts.uri, body);
                let answer = Body::from(serde_json::to_vec(&answer).unwrap());
                reply.send_response(Response::builder().status(code).body(answer).unwrap());
            }
        });
        Client::new(service, "ns")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The requests since the last call, as `GET deployments`, `PATCH deployments/shop-order`.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }

    /// The requests since the last call that were not only reads.
    pub(super) fn writes(&self) -> Vec<String> {
        self.requests().into_iter().filter(|request| !request.starts_with("GET")).collect()
    }

    /// Puts an object there. `path`: as `deployments/shop-order`.
    pub(super) fn put(&self, path: &str, object: Value) {
        self.state().objects.insert(path.to_owned(), object);
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub(super) fn remove(&self, path: &str) {
        self.state().objects.remove(path).unwrap();
    }

    /// Edits an object by hand.
    pub(super) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        edit(self.state().objects.get_mut(path).unwrap());
    }

    /// Refuses writes of an object from now on.
    pub(super) fn refuse(&self, path: &str) {
        self.state().refused.insert(path.to_owned(), status(422, "Invalid"));
    }

    /// Refuses writes of an object from now on, as an admission plugin does.
    pub(super) fn forbid(&self, path: &str, message: &str) {
        let (code, mut answer) = status(403, "Forbidden");
        answer["message"] = json!(message);
        self.state().refused.insert(path.to_owned(), (code, answer));
    }

    /// From now on this kind is not installed.
    pub(super) fn does_not_know(&self, kind: &str) {
        self.state().unknown.push(kind.to_owned());
    }

    /// Lets all workloads of a kind come up, as their controllers would.
    pub(super) fn run(&self, kind: &str) {
        for (path, object) in &mut self.state().objects {
            if path.starts_with(kind) {
                let replicas = object["spec"]["replicas"].clone();
                object["status"] = json!({
                    "observedGeneration": object["metadata"]["generation"],
                    "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                });
            }
        }
    }
}

impl State {
    fn answer(&mut self, method: &str, uri: &http::Uri, body: Value) -> (u16, Value) {
        let (_, path) = uri.path().split_once("/namespaces/ns/").unwrap();
        self.requests.push(format!("{method} {path}"));
        if self.unknown.iter().any(|kind| path.split('/').next() == Some(kind)) {
            return status(404, "NotFound");
        }
        let (object, subresource) = match path.splitn(3, '/').collect::<Vec<_>>()[..] {
            [kind] if method == "GET" => return (200, self.list(kind, uri.query().unwrap_or_default())),
            [kind, name] => (format!("{kind}/{name}"), None),
            [kind, name, subresource] => (format!("{kind}/{name}"), Some(subresource)),
            _ => (path.to_owned(), None),
        };
        if let Some(refusal) = self.refused.get(&object).filter(|_| method != "GET") {
            return refusal.clone();
        }
        match (method, self.objects.get(&object)) {
            ("GET", Some(found)) => (200, found.clone()),
            ("GET" | "DELETE", None) => status(404, "NotFound"),
            ("DELETE", Some(_)) => {
                self.objects.remove(&object);
                status(200, "")
            }
            ("PATCH", found) if subresource == Some("status") => {
                let mut object_now = found.unwrap().clone();
                object_now["status"] = body["status"].clone();
                self.objects.insert(object, object_now.clone());
                (200, object_now)
            }
            ("PATCH", found) => {
                let object_now = self.applied(found.cloned(), body);
                self.objects.insert(object, object_now.clone());
                (200, object_now)
            }
            ("POST", _) => (201, body),
            (other, _) => panic!("{other} {path}"),
        }
    }

    /// An object after it was applied: with what the server fills in by itself.
    fn applied(&mut self, found: Option<Value>, body: Value) -> Value {
        self.version += 1;
        let mut object = body;
        if let Some(found) = found {
            object["status"] = found["status"].clone();
            object["metadata"]["generation"] =
                json!(found["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        } else {
            object["metadata"]["generation"] = json!(1);
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.version));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Some(spec) = object["spec"]["template"]["spec"].as_object_mut() {
            spec.insert("dnsPolicy".to_owned(), json!("ClusterFirst"));
        }
        object
    }

    fn list(&self, kind: &str, query: &str) -> Value {
        let ours = query.contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dordershop-operator");
        assert!(ours, "only the operator's own objects are listed: {query}");
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(path, object)| {
                path.starts_with(&format!("{kind}/"))
                    && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "ordershop-operator"
            })
            .map(|(_, object)| object)
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    let status = if code == 200 { "Success" } else { "Failure" };
    let message = format!("the server says {reason}");
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, "code": code,
        "reason": reason, "message": message}),
    )
}
