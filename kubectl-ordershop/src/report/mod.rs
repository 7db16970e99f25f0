//! `kubectl ordershop report`: everything that explains a shop, in one file that may be shown to others.
//!
//! What cannot be collected does not keep the rest from being so: it stands in `problems.txt`. Holds no value of a
//! Secret and no password (see [`redact`]), and no event of the shop: those are its customers'.

mod archive;
mod collect;
mod redact;

use crate::args::Report;
use crate::cluster::{Cluster, Shop};
use crate::failure::Failure;
use crate::{redis, status};
use archive::Bundle;
use event_store::Config;
use event_store::doctor::{self, Access};
use event_store_cli::args::Server;
use event_store_cli::exit::Done;
use event_store_cli::output::{Out, remark};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(crate) async fn run(
    cluster: &Cluster,
    shop: &Shop,
    args: Report,
    out: &mut Out,
) -> Result<Done, Failure> {
    let now = Timestamp::now();
    let folder = format!("{}-{}", shop.name(), now.strftime("%Y%m%dT%H%M%SZ"));
    let file = args.file.unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    if file.exists() {
        return Err(Failure::Usage(format!("{} is there already", file.display())));
    }
    let mut bundle = collect::secrets(cluster, shop).await;
    bundle.object("shop.yaml", &shop.object);
    let status = status::gather(cluster, shop).await;
    bundle.text("status.txt", &status::text(&status, now));
    bundle.json("status.json", &status::json(&status));
    collect::children(cluster, shop, &mut bundle).await;
    collect::pods(
        cluster,
        &format!("app.kubernetes.io/instance={}", shop.name()),
        "",
        args.lines,
        &mut bundle,
    )
    .await;
    collect::events(cluster, "", &mut bundle).await;
    collect::version(cluster, &mut bundle).await;
    if !status.hibernated
        && let Err(e) = store(cluster, shop, &mut bundle).await
    {
        bundle.problem(&format!("Redis: {e}"));
    }
    let operator = Cluster { client: cluster.client.clone(), namespace: args.operator_namespace };
    let labels = "app.kubernetes.io/name=ordershop-operator";
    collect::pods(&operator, labels, "operator/", args.lines, &mut bundle).await;
    collect::events(&operator, "operator/", &mut bundle).await;

    let problems = bundle.problems().to_vec();
    for problem in &problems {
        remark(&format!("missing: {problem}"));
    }
    let files = bundle.write(&file, &folder)?;
    if out.json {
        out.value(&json!({"file": file, "files": files, "problems": problems}))?;
    } else {
        out.line(format!(
            "{}: {files} files. Logs may name customers: read it before you pass it on.",
            file.display()
        ))?;
    }
    Ok(Done::Fine)
}

/// What the event store says of itself.
async fn store(cluster: &Cluster, shop: &Shop, bundle: &mut Bundle) -> Result<(), Failure> {
    let way = redis::open(cluster, shop).await?;
    let Server { url, .. } = &way.server;
    if let Some(url) = url.first() {
        let config = Config::new(url).access(Access::ReadOnly);
        let findings = doctor::diagnose(&config).await?;
        bundle.json("store/doctor.json", &value(&findings));
    }
    let store = status::look(&way.server).await?;
    let streams = store.streams().await?;
    let inspector = store.inspect();
    bundle.json("store/streams.json", &value(&inspector.streams(&streams, false).await?));
    let groups = inspector.groups(&streams).await?;
    bundle.json("store/groups.json", &value(&groups));
    let mut consumers = Vec::new();
    for (group, stream) in groups.iter().flat_map(|g| g.streams.iter().map(|s| (&g.group, &s.stream))) {
        let here = inspector.consumers(stream, group).await?;
        consumers.push(json!({"group": group, "stream": stream, "consumers": here}));
    }
    bundle.json("store/consumers.json", &Value::Array(consumers));
    Ok(())
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}
