//! How much time the machine gave a test. A deadline on a busy machine counts the time in which the test could run, and
//! not the time in which it waited for a core.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

const SAMPLE: Duration = Duration::from_millis(50);
/// Samples kept for [`Machine::waited_within`].
const KEPT: usize = 2_000;

/// Measures for how long the test's threads and those of its servers were ready to run and had no core
/// (`/proc/<pid>/task/<tid>/schedstat`; where that file is missing, no time).
pub(super) struct Machine {
    samples: Arc<Mutex<Samples>>,
    _sampling: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Samples {
    waited: Duration,
    /// When each of the last samples was taken and how long the longest of all threads had waited since the one before.
    last: VecDeque<(Instant, Duration)>,
}

/// A moment by this clock.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    at: Instant,
    waited: Duration,
}

impl Machine {
    pub(super) fn start() -> Self {
        let samples = Arc::new(Mutex::new(Samples::default()));
        let shared = samples.clone();
        let sampling = tokio::spawn(async move {
            let processes = processes();
            let mut before = run_delays(&processes);
            let mut at = Instant::now();
            loop {
                tokio::time::sleep(SAMPLE).await;
                let now = run_delays(&processes);
                let waited = |(thread, delay): (&PathBuf, &Duration)| {
                    before.get(thread).map_or(Duration::ZERO, |before| delay.saturating_sub(*before))
                };
                let longest = now.iter().map(waited).max().unwrap_or_default();
                let mut samples = shared.lock().unwrap();
                samples.waited += longest.min(at.elapsed());
                at = Instant::now();
                samples.last.push_back((at, longest));
                if samples.last.len() > KEPT {
                    samples.last.pop_front();
                }
                before = now;
            }
        });
        Self { samples, _sampling: AbortOnDropHandle::new(sampling) }
    }

    pub(super) fn now(&self) -> Moment {
        Moment { at: Instant::now(), waited: self.samples.lock().unwrap().waited }
    }

    /// The time since then in which the test could run.
    pub(super) fn since(&self, then: Moment) -> Duration {
        let waited = self.samples.lock().unwrap().waited.saturating_sub(then.waited);
        then.at.elapsed().saturating_sub(waited)
    }

    /// How long the test has waited for a core within this last time, at most.
    pub(super) fn waited_within(&self, time: Duration) -> Duration {
        let samples = self.samples.lock().unwrap();
        samples
            .last
            .iter()
            .rev()
            .take_while(|(at, _)| at.elapsed() < time + SAMPLE)
            .map(|(_, waited)| *waited)
            .sum()
    }
}

/// This process and those that it has started: the servers.
fn processes() -> Vec<PathBuf> {
    let own = std::process::id().to_string();
    let is_ours = |process: &Path| {
        let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
        process.ends_with(&own) || parent.trim() == own
    };
    children(Path::new("/proc")).filter(|process| is_ours(process)).collect()
}

/// By thread: for how long it was ready to run and had no core, since it was started.
fn run_delays(processes: &[PathBuf]) -> HashMap<PathBuf, Duration> {
    let delay = |thread: PathBuf| {
        let text = std::fs::read_to_string(thread.join("schedstat")).ok()?;
        let nanos = text.split_whitespace().nth(1)?.parse().ok()?;
        Some((thread, Duration::from_nanos(nanos)))
    };
    processes.iter().flat_map(|process| children(&process.join("task"))).filter_map(delay).collect()
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
