//! Readiness: what a service waits for before it can do its work, each with a reason. Liveness is
//! only that the process answers: nothing outside it can make it worth a restart.

use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kubernetes gives a probe one second by default; a check that takes longer counts as failed.
const PROBE_BOUND: Duration = Duration::from_millis(700);

type ProbeResult = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
type Probe = Arc<dyn Fn() -> ProbeResult + Send + Sync>;

#[derive(Clone)]
enum Check {
    /// Set by the service: open, or closed with a reason.
    Gate(Result<(), String>),
    /// Asked each time.
    Probe(Probe),
}

/// What a person should look at although the service works.
type Warning = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The checks of one service. Cheap to clone: all clones are the same checks.
#[derive(Clone, Default)]
pub(crate) struct Readiness {
    checks: Arc<Mutex<Vec<(String, Check)>>>,
    warnings: Arc<Mutex<Vec<Warning>>>,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.lock().iter().map(|(name, _)| name.clone()).collect();
        f.debug_tuple("Readiness").field(&names).finish()
    }
}

impl Readiness {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, Check)>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A check that the service sets itself; closed until it is opened.
    pub(crate) fn gate(&self, name: impl Into<String>, reason: impl Into<String>) -> Gate {
        let name = name.into();
        let gate = Gate { name, readiness: self.clone() };
        gate.set(Err(reason.into()));
        gate
    }

    /// A check that is asked at every request.
    pub(crate) fn probe<F, Fut>(&self, name: impl Into<String>, probe: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        let probe: Probe = Arc::new(move || Box::pin(probe()));
        self.set(name.into(), Check::Probe(probe));
    }

    /// Asked at every request. Its answer stands in the report and never makes the service unready: a pod out of its
    /// Service would turn what is slow into an outage.
    pub(crate) fn warning(&self, warning: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(warning));
    }

    fn set(&self, name: String, check: Check) {
        let mut checks = self.lock();
        match checks.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = check,
            None => checks.push((name, check)),
        }
    }

    /// Asks every check.
    pub(crate) async fn report(&self) -> Report {
        let checks = self.lock().clone();
        let mut answers = Vec::with_capacity(checks.len());
        for (name, check) in checks {
            let result = match check {
                Check::Gate(result) => result,
                Check::Probe(probe) => tokio::time::timeout(PROBE_BOUND, probe())
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer within {} ms", PROBE_BOUND.as_millis()))),
            };
            answers.push(Answer { name, ready: result.is_ok(), reason: result.err() });
        }
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let warnings = warnings.iter().filter_map(|warning| warning()).collect();
        Report { ready: answers.iter().all(|answer| answer.ready), checks: answers, warnings }
    }
}

/// A readiness check that the service opens and closes.
#[derive(Clone, Debug)]
pub struct Gate {
    name: String,
    readiness: Readiness,
}

impl Gate {
    /// From now on this check is passed.
    pub fn open(&self) {
        self.set(Ok(()));
    }

    /// From now on the service is not ready, for this reason.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, result: Result<(), String>) {
        self.readiness.set(self.name.clone(), Check::Gate(result));
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ready: bool,
    pub(crate) checks: Vec<Answer>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    name: String,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_service_is_ready_when_every_check_is_and_says_why_when_not() {
        let readiness = Readiness::default();
        assert!(readiness.report().await.ready);
        let gate = readiness.gate("redis", "not connected yet");
        readiness.probe("group", || async { Ok(()) });
        let report = readiness.report().await;
        assert!(!report.ready);
        assert_eq!(report.checks[0].reason.as_deref(), Some("not connected yet"));
        gate.open();
        assert!(readiness.report().await.ready);
        gate.close("gone");
        assert!(!readiness.report().await.ready);
    }

    #[tokio::test]
    async fn a_warning_stands_in_the_report_and_the_service_stays_ready() {
        let readiness = Readiness::default();
        let stands_still = Arc::new(Mutex::new(None));
        let asked = stands_still.clone();
        readiness.warning(move || asked.lock().unwrap().clone());
        let text = |report: &Report| serde_json::to_string(report).unwrap();
        assert!(!text(&readiness.report().await).contains("warnings"));
        *stands_still.lock().unwrap() = Some("nothing was finished for 75 s".to_owned());
        let report = readiness.report().await;
        assert!(report.ready);
        assert!(
            text(&report).contains(r#""warnings":["nothing was finished for 75 s"]"#),
            "{}",
            text(&report)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_is_not_ready_and_holds_nothing_up() {
        let readiness = Readiness::default();
        readiness.probe("slow", std::future::pending);
        let report = readiness.report().await;
        assert!(!report.ready);
        assert_eq!(report.checks[0].reason.as_deref(), Some("no answer within 700 ms"));
    }
}
