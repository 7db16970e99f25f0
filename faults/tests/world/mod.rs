//! A small shop's history and books, written by hand: one customer, one product, an order that is confirmed and
//! billed, one that is rejected, a list of two customers, three reads, one poisoned entry.
#![allow(unreachable_pub)]

use event_store::Id;
use faults::books::{Books, Cache, DeadLetter, Entry, Foreign, Group, KINDS, Received};
use faults::history::{Answer, Call, Done, History, Method, Poison, Request};
use faults::schedule::Fault;
use serde_json::{Value, json};

#[derive(Default)]
pub struct World {
    pub history: History,
    pub books: Books,
    time: u64,
}

pub fn clean() -> World {
    let mut w = World::default();
    let ann = json!({"id": "c1", "name": "Ann", "email": "ann@example.org"});
    w.post("customer", "/customer", &json!({"name": "Ann", "email": "ann@example.org"}), 200, &json!(["c1"]));
    let created = w.event("customer_created", "customer", &ann, "customer", None);
    w.mail("welcome", &ann, &created);

    w.post(
        "list",
        "/customers",
        &json!([{"name": "Bo", "email": "refused@b.org"}, {"name": "Cy", "email": "cy@c.org"}]),
        200,
        &json!(["c2", "c3"]),
    );
    let bo = json!({"id": "c2", "name": "Bo", "email": "refused@b.org"});
    let cy = json!({"id": "c3", "name": "Cy", "email": "cy@c.org"});
    for customer in [bo, cy] {
        let created = w.event("customer_created", "customer", &customer, "list", None);
        w.mail("welcome", &customer, &created);
    }
    w.post("nonsense", "/customer", &json!({"name": 1}), 422, &json!({}));
    w.call("away", Method::Delete, "/customer/c9", None, Answer::Lost("no answer".into()));

    w.post("product", "/product", &json!({"name": "Cup", "price": 2}), 200, &json!(["p1"]));
    w.event("product_created", "product", &json!({"id": "p1", "name": "Cup", "price": 2.0}), "product", None);
    w.post("stock", "/inventory", &json!({"product_id": "p1", "amount": 10}), 200, &json!(["i1"]));
    w.event(
        "inventory_created",
        "inventory",
        &json!({"id": "i1", "product_id": "p1", "amount": 10}),
        "stock",
        None,
    );

    let begin = w.post(
        "order",
        "/order",
        &json!({"product_ids": ["p1", "p1"], "customer_id": "c1"}),
        200,
        &json!(["o1"]),
    );
    let order = |status: &str, change: &str, billed: bool| {
        json!({"id": "o1", "product_ids": ["p1", "p1"], "customer_id": "c1", "customer": {"name": "Ann", "email": "ann@example.org"},
            "revision": 1, "status": status, "change": change, "billed": billed})
    };
    let placed = w.event("order_created", "order", &order("pending", "placed", false), "order", None);
    w.event(
        "inventory_updated",
        "inventory",
        &json!({"id": "i1", "product_id": "p1", "amount": 8}),
        "order",
        Some(&placed),
    );
    let line = json!({"inventory_id": "i1", "product_id": "p1", "amount": 2});
    let reserved = w.event(
        "inventory_reserved",
        "reservation",
        &json!({"id": "o1", "order_id": "o1", "revision": 1, "lines": [line]}),
        "order",
        Some(&placed),
    );
    let confirmed =
        w.event("order_updated", "order", &order("confirmed", "confirmed", false), "order", Some(&reserved));
    w.ended(begin);
    w.mail("thank_you", &ann, &confirmed);
    w.mail("transfer", &ann, &confirmed);
    w.get("read-1", "/order/o1", &order("confirmed", "confirmed", false));

    w.post("billing", "/billing", &json!({"order_id": "o1"}), 200, &json!(["b1"]));
    let billing = json!({"id": "b1", "order_id": "o1", "customer": {"id": "c1", "name": "Ann", "email": "ann@example.org"}});
    let paid = w.event("billing_created", "billing", &billing, "billing", None);
    let billed =
        w.event("order_updated", "order", &order("confirmed", "billed", true), "billing", Some(&paid));
    let _ = billed;
    w.mail("receipt", &ann, &paid);
    w.get("read-2", "/order/o1", &order("confirmed", "billed", true));

    let twenty = vec!["p1"; 20];
    let body = json!({"product_ids": twenty, "customer_id": "c1"});
    w.post("short", "/order", &body, 409, &json!({"type": "urn:ordershop:problem:out-of-stock"}));
    let short = |status: &str, change: &str| {
        json!({"id": "o2", "product_ids": twenty, "customer_id": "c1", "customer": {"name": "Ann", "email": "ann@example.org"},
            "revision": 1, "status": status, "change": change})
    };
    let placed = w.event("order_created", "order", &short("pending", "placed"), "short", None);
    let said = json!({"id": "o2", "order_id": "o2", "revision": 1, "lines": []});
    let rejected = w.event("inventory_rejected", "reservation", &said, "short", Some(&placed));
    w.event("order_updated", "order", &short("rejected", "rejected"), "short", Some(&rejected));
    let listed = json!([order("confirmed", "billed", true)]);
    w.get("list-read", "/orders", &listed);

    w.derive();
    w.poison();
    w
}

impl World {
    fn tick(&mut self) -> u64 {
        self.time += 10;
        self.time
    }

    fn call(&mut self, id: &str, method: Method, path: &str, body: Option<Value>, answer: Answer) -> usize {
        let (begin, end) = (self.tick(), self.tick());
        let request = Request::command(method, path, body);
        self.history.calls.push(Call { id: id.into(), begin, end, request, answer });
        self.history.calls.len() - 1
    }

    fn post(&mut self, id: &str, path: &str, body: &Value, status: u16, answer: &Value) -> usize {
        self.call(id, Method::Post, path, Some(body.clone()), Answer::Status(status, answer.clone()))
    }

    fn get(&mut self, id: &str, path: &str, answer: &Value) {
        self.call(id, Method::Get, path, None, Answer::Status(200, answer.clone()));
    }

    /// The answer came now.
    fn ended(&mut self, call: usize) {
        self.history.calls[call].end = self.tick();
    }

    fn event(&mut self, stream: &str, kind: &str, entity: &Value, call: &str, cause: Option<&str>) -> String {
        let id = Id::new(self.tick(), 0);
        let entity_id = entity["id"].as_str().unwrap().to_owned();
        let same = self.books.events.iter().filter(|e| e.kind == kind && e.entity_id == entity_id).count();
        let event_id = format!("event-{id}");
        self.books.events.push(Entry {
            id,
            stream: stream.into(),
            event_id: event_id.clone(),
            kind: kind.into(),
            entity_id,
            version: u64::try_from(same + 1).unwrap(),
            schema: 1,
            text: entity.to_string(),
            correlation: Some(call.into()),
            causation: cause.map(str::to_owned),
        });
        event_id
    }

    fn mail(&mut self, kind: &str, customer: &Value, cause: &str) {
        let id = format!("{kind}-{}", customer["id"].as_str().unwrap());
        let mail = json!({"id": id, "kind": kind, "to": customer["email"], "customer_id": customer["id"], "subject": kind, "body": "Dear\nyou"});
        let requested = self.event("mail_requested", "mail", &mail, "x", Some(cause));
        if customer["email"].as_str().unwrap().starts_with("refused@") {
            self.event("mail_failed", "mail", &mail, "x", Some(&requested));
            return;
        }
        self.event("mail_sent", "mail", &mail, "x", Some(&requested));
        self.books.mails.push(Received {
            id: format!("<{id}@example.com>"),
            to: vec![customer["email"].as_str().unwrap().into()],
            subject: kind.into(),
            body: "Dear\r\nyou\r\n".into(),
            at: 100.0,
        });
    }

    /// Caches and read model, as a fold of what stands in the log now.
    fn derive(&mut self) {
        for kind in KINDS {
            self.books.caches.insert(kind.into(), Cache::default());
        }
        let model = &mut self.books.projection;
        for entry in &self.books.events {
            let (id, entity) = (entry.entity_id.clone(), entry.entity());
            let cache = self.books.caches.get_mut(&entry.kind).unwrap();
            cache.ids.insert(id.clone());
            let mut hash = std::collections::BTreeMap::new();
            for (name, value) in entity.as_object().unwrap() {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Array(items) if name == "product_ids" => {
                        let list = items.iter().map(|item| item.as_str().unwrap().to_owned()).collect();
                        cache.lists.insert(id.clone(), list);
                        format!("order_product_ids:{id}")
                    }
                    other => other.to_string(),
                };
                hash.insert(name.clone(), text);
            }
            cache.hashes.insert(id.clone(), hash);
            if !matches!(entry.kind.as_str(), "mail" | "reservation") {
                if entry.version == 1 {
                    model.order.entry(entry.kind.clone()).or_default().push(id.clone());
                }
                let shown = model.shown.entry(entry.kind.clone()).or_default();
                if entity["status"] == "rejected" {
                    shown.remove(&id);
                } else {
                    shown.insert(id, entity);
                }
            }
        }
        model.billed.insert("b1".into(), "o1".into());
    }

    fn poison(&mut self) {
        let (stream, id) = ("events:order_created".to_owned(), "7-7".to_owned());
        let poison = vec![Poison { stream: stream.clone(), id: id.clone() }];
        let fault = Fault::Poison { entries: 1 };
        self.history.faults.push(Done { fault, begin: 5, end: 6, poison, trouble: None });
        self.books.foreign.push(Foreign { stream: stream.clone(), id: id.clone() });
        let group = Group { group: "inventory".into(), stream: stream.clone(), lag: Some(0), pending: 0 };
        self.books.groups.push(group);
        self.books.dead.push(DeadLetter { group: "inventory".into(), stream, id, reason: "no event".into() });
    }

    // The lies.

    pub fn last(&self, stream: &str) -> &Entry {
        self.books.events.iter().rfind(|entry| entry.stream == stream).unwrap()
    }

    pub fn last_mut(&mut self, stream: &str) -> &mut Entry {
        self.books.events.iter_mut().rfind(|entry| entry.stream == stream).unwrap()
    }

    /// Changes the first event of a stream.
    pub fn entity(&mut self, stream: &str, change: impl FnOnce(&mut Value)) {
        let entry = self.books.events.iter_mut().find(|entry| entry.stream == stream).unwrap();
        let mut entity = entry.entity();
        change(&mut entity);
        entry.text = entity.to_string();
    }

    /// What the next version of the shop would have written.
    pub fn next_schema(&mut self) {
        let reservations = self.books.events.iter_mut().filter(|entry| entry.kind == "reservation");
        for entry in reservations {
            entry.schema = 2;
            entry.text = entry.text.replace("\"lines\"", "\"held\"");
        }
        for hash in self.cache("reservation").hashes.values_mut() {
            let lines = hash.remove("lines").unwrap();
            hash.insert("held".into(), lines);
        }
    }

    pub fn cache(&mut self, kind: &str) -> &mut Cache {
        self.books.caches.get_mut(kind).unwrap()
    }

    pub fn answer(&mut self, call: &str, status: u16, body: &Value) {
        let call = self.history.calls.iter_mut().find(|c| c.id == call).unwrap();
        call.answer = Answer::Status(status, body.clone());
    }

    pub fn lose_answer(&mut self, call: &str) {
        let call = self.history.calls.iter_mut().find(|c| c.id == call).unwrap();
        call.answer = Answer::Lost("no answer".into());
    }

    /// A kill at the time of the mails: the history begins at 0, they came at 100 s.
    pub fn killed(&mut self, service: &str) {
        let fault = Fault::Kill { service: service.into(), renamed: false, away_ms: 0 };
        self.history.faults.push(Done {
            fault,
            begin: 100_000_000,
            end: 100_100_000,
            poison: Vec::new(),
            trouble: None,
        });
    }
}
