//! The classic queries over HTTP. What they answer is read elsewhere.

use crate::projection::Section;
use crate::reader::{Consistency, Reader, array};
use axum::Router;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chassis::Problem;

/// The paths of each section: its list and one of it.
const PATHS: [(Section, &str, &str); 5] = [
    (Section::Customers, "/customers", "/customer/{id}"),
    (Section::Products, "/products", "/product/{id}"),
    (Section::Inventory, "/inventory", "/inventory/{id}"),
    (Section::Orders, "/orders", "/order/{id}"),
    (Section::Billings, "/billings", "/billing/{id}"),
];

pub(crate) fn router(reader: Reader) -> Router {
    let mut router = Router::new().route("/orders/unbilled", get(unbilled)).route("/report", get(report));
    for (section, many, one) in PATHS {
        router = router
            .route(
                many,
                get(async move |State(reader), consistency| list(section, reader, consistency).await),
            )
            .route(
                one,
                get(async move |State(reader), id, consistency| {
                    entity(section, reader, id, consistency).await
                }),
            );
    }
    router.with_state(reader)
}

async fn list(section: Section, reader: Reader, consistency: Consistency) -> Result<Response, Problem> {
    reader.current(consistency).await?;
    Ok(json(array(&reader.all(section).await?)))
}

/// The entity, or `null`: what a client of the original expects of an unknown id.
async fn entity(
    section: Section,
    reader: Reader,
    Path(id): Path<String>,
    consistency: Consistency,
) -> Result<Response, Problem> {
    reader.current(consistency).await?;
    Ok(json(reader.one(section, &id).await?.unwrap_or_else(|| "null".to_owned())))
}

async fn unbilled(State(reader): State<Reader>, consistency: Consistency) -> Result<Response, Problem> {
    reader.current(consistency).await?;
    Ok(json(array(&reader.unbilled().await?)))
}

async fn report(State(reader): State<Reader>, consistency: Consistency) -> Result<Response, Problem> {
    reader.current(consistency).await?;
    Ok(json(reader.report().await?))
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

impl<S: Sync> FromRequestParts<S> for Consistency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Problem::bad_request(error.body_text()))?;
        let given = pairs.iter().find(|(name, _)| name == "consistency").map(|(_, value)| value.as_str());
        match given {
            None | Some("strong") => Ok(Self::Strong),
            Some("eventual") => Ok(Self::Eventual),
            Some(_) => Err(Problem::bad_request("consistency is strong or eventual")),
        }
    }
}
