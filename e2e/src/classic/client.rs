//! A client of the classic routes. It takes nothing but 200 for an answer.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A customer as the gateway lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Customer {
    /// Its id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// A product as the gateway lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Product {
    /// Its id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The price of one.
    pub price: f64,
}

/// What of a product is in stock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Inventory {
    /// Its id.
    pub id: String,
    /// The product.
    pub product_id: String,
    /// How many are left.
    pub amount: u64,
}

/// An order as the gateway lists it; the fields beyond the contract are kept as they came, since the
/// original client sends back what it has read.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Order {
    /// Its id.
    pub id: String,
    /// The products, repeats kept.
    pub product_ids: Vec<String>,
    /// The customer.
    pub customer_id: String,
    /// All other fields.
    #[serde(flatten)]
    pub further: serde_json::Map<String, Value>,
}

/// The whole shop.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// All products.
    pub products: Vec<Product>,
    /// All stock.
    pub inventory: Vec<Inventory>,
    /// All customers.
    pub customers: Vec<Customer>,
    /// All orders.
    pub orders: Vec<Order>,
    /// All billings.
    pub billings: Vec<Value>,
}

/// Speaks to one gateway.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the gateway at this URL.
    pub fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// GET of a list or of one entity; `None` is the contract's `null`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.http.get(self.url(path)).send().await.with_context(|| format!("GET {path}"))?;
        read(answer, &format!("GET {path}")).await
    }

    /// POST of one entity or a list; the new ids.
    pub async fn create(&self, path: &str, body: &Value) -> Result<Vec<String>> {
        let answer = self.send(Method::POST, path, Some(body)).await?;
        read(answer, &format!("POST {path}")).await
    }

    /// PUT of a whole entity.
    pub async fn update(&self, path: &str, body: &Value) -> Result<()> {
        let answer = self.send(Method::PUT, path, Some(body)).await?;
        let done: Value = read(answer, &format!("PUT {path}")).await?;
        ensure!(done == json!(true), "PUT {path} answered {done}");
        Ok(())
    }

    /// DELETE of an entity.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.send(Method::DELETE, path, None).await?;
        let done: Value = read(answer, &format!("DELETE {path}")).await?;
        ensure!(done == json!(true), "DELETE {path} answered {done}");
        Ok(())
    }

    /// Any request, whatever is answered: status and body.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// A customer of this name.
    pub async fn new_customer(&self, name: &str) -> Result<String> {
        let email = format!("{}@server.com", name.to_lowercase());
        self.create_one("/customer", &json!({"name": name, "email": email})).await
    }

    /// A product of this name, with stock.
    pub async fn new_product(&self, name: &str, price: u32, stock: u32) -> Result<String> {
        let id = self.create_one("/product", &json!({"name": name, "price": price})).await?;
        self.create_one("/inventory", &json!({"product_id": id, "amount": stock})).await?;
        Ok(id)
    }

    /// An order of these products.
    pub async fn new_order(&self, customer_id: &str, product_ids: &[String]) -> Result<String> {
        self.create_one("/order", &json!({"customer_id": customer_id, "product_ids": product_ids})).await
    }

    async fn create_one(&self, path: &str, body: &Value) -> Result<String> {
        let mut ids = self.create(path, body).await?;
        ensure!(ids.len() == 1, "POST {path} of one entity answered {ids:?}");
        Ok(ids.remove(0))
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response> {
        let name = format!("{method} {path}");
        let request = self.http.request(method, self.url(path));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send().await.context(name)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

async fn read<T: DeserializeOwned>(answer: Response, what: &str) -> Result<T> {
    let status = answer.status();
    let text = answer.text().await.with_context(|| what.to_owned())?;
    ensure!(status == StatusCode::OK, "{what} answered {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{what} answered {text}"))
}
