//! Faults of the line between the services and Redis.

use crate::rng::Rng;
use crate::schedule::Net;
use event_store::testing::{Line, Lost, Proxy};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const DELAY: Duration = Duration::from_millis(20);
/// The store's functions, and any command.
const COMMANDS: [&str; 7] = ["append", "finish", "ready", "upkeep", "project", "xreadgroup", ""];

pub(super) async fn disturb(proxy: &Proxy, how: Net, time: Duration, rng: &mut Rng) {
    let end = Instant::now() + time;
    match how {
        Net::Delay => {
            proxy.set(Line::Late(DELAY));
            sleep(time).await;
        }
        Net::Split => {
            proxy.set(Line::ByteByByte);
            sleep(time).await;
        }
        Net::Cut => {
            while Instant::now() < end {
                proxy.cut();
                sleep(Duration::from_millis(rng.between(20, 400))).await;
            }
        }
        Net::DropReplies => {
            while Instant::now() < end {
                let command = rng.pick(&COMMANDS).copied().unwrap_or_default();
                let nth = usize::try_from(rng.between(1, 8)).unwrap_or(1);
                proxy.lose(Lost::Reply, command, nth);
                sleep(Duration::from_millis(rng.between(20, 200))).await;
            }
        }
    }
    proxy.set(Line::Good);
}
