//! A status as text. Pure.

use super::{Redis, Status};
use event_store::inspect::ServerInfo;
use event_store_cli::output::{Column, known, plain, table};
use event_store_cli::when::span;
use jiff::Timestamp;
use std::fmt::Write as _;

/// One screen. A part that is empty is left out.
pub(crate) fn text(status: &Status, now: Timestamp) -> String {
    let mut text = head(status);
    for part in [conditions(status, now), services(status), redis(&status.redis)] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    text
}

fn head(status: &Status) -> String {
    let ready = if status.ready { "Ready" } else { "not Ready" };
    let mut line = format!("shop/{} in namespace {}: {ready}", status.shop, status.namespace);
    if status.hibernated {
        line.push_str(", hibernated");
    }
    if !status.up_to_date {
        line.push_str(", and the operator has not looked at its newest spec yet");
    }
    let version = status.version.as_deref().unwrap_or("none yet");
    let url = status.url.as_deref().unwrap_or("none yet");
    plain(&line) + "\n" + &plain(&format!("version {version}, gateway {url}")) + "\n"
}

fn conditions(status: &Status, now: Timestamp) -> String {
    let columns = [
        Column::Text("CONDITION"),
        Column::Text("STATUS"),
        Column::Text("SINCE"),
        Column::Text("REASON"),
        Column::Text("MESSAGE"),
    ];
    let rows: Vec<Vec<String>> = status
        .conditions
        .iter()
        .map(|c| {
            let since = since(&c.last_transition_time, now);
            vec![c.type_.clone(), format!("{:?}", c.status), since, c.reason.clone(), c.message.clone()]
        })
        .collect();
    if rows.is_empty() {
        "The operator has not said anything about it yet.\n".to_owned()
    } else {
        table(&columns, rows)
    }
}

fn since(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    span(u64::try_from(now.duration_since(time).as_millis()).unwrap_or(0))
}

fn services(status: &Status) -> String {
    let columns = [Column::Text("SERVICE"), Column::Number("READY"), Column::Text("IMAGE")];
    let rows: Vec<Vec<String>> = status
        .services
        .iter()
        .map(|s| vec![s.name.clone(), format!("{}/{}", s.ready, s.desired), s.image.clone()])
        .collect();
    if rows.is_empty() { String::new() } else { table(&columns, rows) }
}

fn redis(redis: &Redis) -> String {
    let (servers, groups) = match redis {
        Redis::Told { servers, groups } => (servers, groups),
        Redis::Unknown { unknown } => return plain(&format!("Redis: {unknown}")) + "\n",
    };
    let mut text = String::new();
    for told in servers {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", plain(&server(told)));
    }
    let columns =
        [Column::Text("GROUP"), Column::Number("PARKED"), Column::Number("PENDING"), Column::Number("LAG")];
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|g| vec![g.group.clone(), g.parked.to_string(), g.pending.to_string(), known(g.lag)])
        .collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(&columns, rows));
    }
    text
}

fn server(told: &ServerInfo) -> String {
    let memory = match (told.memory_bytes, told.memory_limit_bytes) {
        (None, _) => "memory unknown".to_owned(),
        (Some(used), None) => format!("memory {}, no limit", bytes(used)),
        (Some(used), Some(limit)) => format!("memory {} of {}", bytes(used), bytes(limit)),
    };
    let disk = match told.append_only {
        Some(true) => format!("append-only file, fsync {}", told.fsync.as_deref().unwrap_or("unknown")),
        Some(false) => "NO append-only file: what is not saved is lost at its end".to_owned(),
        None => "persistence unknown".to_owned(),
    };
    let mut line =
        format!("Redis {}: {memory}; {disk}", told.version.as_deref().unwrap_or("of unknown version"));
    if told.last_write_ok == Some(false) {
        line.push_str("; its last write to the disk FAILED, it refuses writes");
    }
    if told.last_save_ok == Some(false) {
        line.push_str("; its last save FAILED");
    }
    line
}

/// To one digit behind the point: `1.5 MiB`. Exact: tenths are counted in whole numbers.
fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(size, _)| bytes >= *size);
    let Some((size, name)) = unit else { return format!("{bytes} B") };
    let (whole, tenths) = (bytes / size, bytes % size * 10 / size);
    format!("{whole}.{tenths} {name}")
}

#[cfg(test)]
mod tests {
    use super::super::GroupStatus;
    use super::*;
    use ordershop_operator::crd::{Condition, ConditionStatus, ServiceStatus};

    fn now() -> Timestamp {
        "2026-11-23T01:00:00Z".parse().unwrap()
    }

    fn condition(type_: &str, status: ConditionStatus, reason: &str, message: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: Some(1),
            last_transition_time: "2026-11-23T00:58:30Z".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn status(redis: Redis) -> Status {
        Status {
            shop: "shop".to_owned(),
            namespace: "shops".to_owned(),
            ready: false,
            version: Some("1.2.3".to_owned()),
            url: Some("http://shop-gateway.shops.svc".to_owned()),
            hibernated: false,
            up_to_date: true,
            conditions: vec![
                condition("Ready", ConditionStatus::False, "ServiceNotReady", "crm: 0 of 2 ready"),
                condition("RedisReady", ConditionStatus::True, "Ready", ""),
            ],
            services: vec![
                ServiceStatus {
                    name: "gateway".to_owned(),
                    desired: 1,
                    ready: 1,
                    image: "r/gateway:1.2.3".to_owned(),
                },
                ServiceStatus { name: "crm".to_owned(), desired: 2, ready: 0, image: "r/crm:9".to_owned() },
            ],
            redis,
        }
    }

    #[test]
    fn a_screen_tells_all_that_is_known() {
        let groups = vec![
            GroupStatus { group: "crm".to_owned(), parked: 2, pending: 1, lag: Some(14) },
            GroupStatus { group: "order".to_owned(), parked: 0, pending: 0, lag: None },
        ];
        let told = Redis::Told { servers: vec![ServerInfo::default()], groups };
        let expected = "\
shop/shop in namespace shops: not Ready
version 1.2.3, gateway http://shop-gateway.shops.svc

CONDITION   STATUS  SINCE   REASON           MESSAGE
Ready       False   1m 30s  ServiceNotReady  crm: 0 of 2 ready
RedisReady  True    1m 30s  Ready

SERVICE  READY  IMAGE
gateway    1/1  r/gateway:1.2.3
crm        0/2  r/crm:9

Redis of unknown version: memory unknown; persistence unknown

GROUP  PARKED  PENDING      LAG
crm         2        1       14
order       0        0  unknown
";
        assert_eq!(text(&status(told), now()), expected);
    }

    #[test]
    fn a_redis_that_is_away_hides_nothing_else() {
        let text = text(&status(Redis::Unknown { unknown: "no pod is ready".to_owned() }), now());
        assert!(text.contains("crm        0/2") && text.ends_with("\nRedis: no pod is ready\n"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_redis_cannot_be_overlooked() {
        let mut told = ServerInfo::default();
        told.version = Some("7.0.15".to_owned());
        told.memory_bytes = Some(1_572_864);
        told.memory_limit_bytes = Some(1 << 30);
        told.append_only = Some(true);
        told.fsync = Some("everysec".to_owned());
        assert_eq!(
            server(&told),
            "Redis 7.0.15: memory 1.5 MiB of 1.0 GiB; append-only file, fsync everysec"
        );
        told.append_only = Some(false);
        told.last_write_ok = Some(false);
        told.last_save_ok = Some(false);
        let said = server(&told);
        assert!(said.contains("NO append-only file") && said.matches("FAILED").count() == 2, "{said}");
    }

    #[test]
    fn a_text_from_the_cluster_cannot_command_the_terminal() {
        let mut status = status(Redis::Unknown { unknown: "\u{1b}[2J".to_owned() });
        status.conditions[0].message = "\u{1b}[31m".to_owned();
        assert!(!text(&status, now()).contains('\u{1b}'));
    }

    #[test]
    fn bytes_are_told_to_a_tenth() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
