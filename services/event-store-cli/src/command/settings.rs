//! `eventstore settings`: what all programs of the store must have in common, and changing it while they run.

use super::ask;
use crate::args::{KindChange, Server, Settings};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out};
use crate::when;
use event_store::{EventStore, InvalidName, KindSettings, SettingsError};
use serde_json::json;
use std::time::Duration;

pub(super) async fn run(server: &Server, what: Option<&Settings>, out: &mut Out) -> Result<Done, Failure> {
    match what {
        None => show(&connect::look(server).await?, out).await,
        Some(Settings::DedupWindow { window, yes }) => {
            let store = connect::change(server).await?;
            change_window(&store, *window, *yes, out).await
        }
        Some(Settings::Kind(change)) => {
            let store = connect::change(server).await?;
            change_kind(&store, change, out).await
        }
    }
}

async fn show(store: &EventStore, out: &mut Out) -> Result<Done, Failure> {
    let settings = store.settings(&store.streams().await?).await?;
    let layout = settings.layout.map(|layout| format!("{layout:?}").to_lowercase());
    let window = settings.dedup_window.map(milliseconds);
    if out.json {
        let one = |k: &KindSettings| {
            json!({
                "kind": k.kind.name(), "family": k.kind.family(), "lists": k.kind.list_fields(),
                "indexes": k.kind.index_fields(), "building": k.building,
            })
        };
        let kinds: Vec<_> = settings.kinds.values().map(one).collect();
        out.value(&json!({ "layout": layout, "dedup_window_ms": window, "kinds": kinds }))?;
        return Ok(Done::Fine);
    }
    let unsettled = || "not settled yet".to_owned();
    out.line(format!("layout        {}", layout.unwrap_or_else(unsettled)))?;
    out.line(format!("dedup window  {}", window.map_or_else(unsettled, when::span)))?;
    let columns =
        [Column::Text("KIND"), Column::Text("LISTS"), Column::Text("INDEXES"), Column::Text("BEING BUILT")];
    let row = |k: &KindSettings| {
        let (lists, indexes) = (k.kind.list_fields().join(", "), k.kind.index_fields().join(", "));
        vec![k.kind.name().to_owned(), lists, indexes, k.building.join(", ")]
    };
    out.table(&columns, settings.kinds.values().map(row).collect())?;
    Ok(Done::Fine)
}

fn milliseconds(window: Duration) -> u64 {
    u64::try_from(window.as_millis()).unwrap_or(u64::MAX)
}

async fn change_window(
    store: &EventStore,
    window: Duration,
    yes: bool,
    out: &mut Out,
) -> Result<Done, Failure> {
    let text = when::span(milliseconds(window));
    let question = format!(
        "Remember event ids for {text}? Running programs adopt it; a program that states another window is refused when it \
         starts."
    );
    if !yes && !ask(&question)? {
        return Ok(Done::Fine);
    }
    let since = store.set_dedup_window(window, &store.streams().await?).await.map_err(failure)?;
    if out.json {
        out.value(&json!({ "dedup_window_ms": milliseconds(window), "since_ms": since }))?;
    } else {
        out.line(format!("event ids are remembered for {text}, from {} on", when::time(since)))?;
    }
    Ok(Done::Fine)
}

async fn change_kind(store: &EventStore, change: &KindChange, out: &mut Out) -> Result<Done, Failure> {
    let streams = store.streams().await?;
    let settings = store.settings(&streams).await?;
    let Some(KindSettings { kind, .. }) = settings.kinds.get(&change.kind) else {
        let known: Vec<&str> = settings.kinds.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return Err(Failure::NotFound(format!(
            "no program has used a kind {:?}; the kinds: {known}",
            change.kind
        )));
    };
    let fields = |asked: &Option<Vec<String>>, now: &[&str]| -> Vec<String> {
        let asked =
            asked.as_ref().map(|names| names.iter().filter(|name| !name.is_empty()).cloned().collect());
        asked.unwrap_or_else(|| now.iter().map(ToString::to_string).collect())
    };
    let unusable = |e: InvalidName| Failure::Usage(e.to_string());
    let lists = fields(&change.lists, kind.list_fields());
    let indexes = fields(&change.indexes, kind.index_fields());
    let changed = kind.try_lists(&lists).map_err(unusable)?.try_indexes(&indexes).map_err(unusable)?;
    let question = format!(
        "Keep of {} the lists [{}] and the indexes [{}], and rewrite the entities that differ? Running programs adopt it; \
         a program that declares other lists is refused when it starts.",
        change.kind,
        changed.list_fields().join(", "),
        changed.index_fields().join(", "),
    );
    if !change.yes && !ask(&question)? {
        return Ok(Done::Fine);
    }
    store.set_kind(changed).await.map_err(failure)?;
    let rebuilt = store.rebuild(&[changed], &streams).await.map_err(|e| Failure::Failed(e.to_string()))?;
    if out.json {
        out.value(&json!({ "kind": change.kind, "rebuilt": rebuilt.rebuilt }))?;
    } else {
        out.line(format!("{} is changed; {} entities rewritten", change.kind, rebuilt.rebuilt))?;
    }
    Ok(Done::Fine)
}

fn failure(e: SettingsError) -> Failure {
    match e {
        SettingsError::Invalid(message) => Failure::Usage(message),
        other => Failure::Failed(other.to_string()),
    }
}
