//! What keeps a component from getting ready, pure: read from its pods, in words that a person can act on.
//!
//! A Deployment says only that something does not get on, and only after minutes. Its pods know at once what it
//! is. Waiting for a node is no trouble at first: it becomes one when it lasts.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;

use super::labels;

/// How long a pod may wait for a node: a volume is bound and another pod ends within that time.
pub const WAITS_FOR_A_NODE: Duration = Duration::from_secs(10);

/// The longest quotation of what Kubernetes or a program said, in characters.
const QUOTED: usize = 200;

/// What is wrong with a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The component.
    pub component: String,
    /// What is wrong.
    pub cause: Cause,
    /// What is wrong, for people.
    pub message: String,
}

/// What can be wrong with a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its image cannot be had.
    Image,
    /// Its container cannot be made: a Secret is missing, most of the time.
    Container,
    /// Its process ends again and again.
    Crash,
    /// Its process needs more memory than it may have.
    Memory,
    /// Its volume is not there.
    Volume,
    /// No node takes it.
    Node,
}

impl Cause {
    /// The reason, for conditions and Events.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Image => "ImageNotPulled",
            Self::Container => "ContainerNotCreated",
            Self::Crash => "Crashes",
            Self::Memory => "OutOfMemory",
            Self::Volume => "VolumePending",
            Self::Node => "Unschedulable",
        }
    }
}

/// What is wrong with these pods, one trouble per component at most. `image`: what a component should run; a pod
/// with another image is being replaced, and its trouble with it.
#[must_use]
pub fn troubles<'a>(pods: &[Pod], image: impl Fn(&str) -> Option<&'a str>, now: Timestamp) -> Vec<Trouble> {
    let mut found: Vec<Trouble> = Vec::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(component) = labels::component_of(pod.labels()) else { continue };
        if found.iter().any(|trouble| trouble.component == component) || is_outdated(pod, image(component)) {
            continue;
        }
        if let Some((cause, what)) = of_pod(pod, now) {
            let message = format!("{component}: {what}");
            found.push(Trouble { component: component.to_owned(), cause, message });
        }
    }
    found
}

fn is_outdated(pod: &Pod, wanted: Option<&str>) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    wanted.is_some_and(|wanted| !containers.into_iter().any(|it| it.image.as_deref() == Some(wanted)))
}

fn of_pod(pod: &Pod, now: Timestamp) -> Option<(Cause, String)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().flatten();
    containers.filter(|container| !container.ready).find_map(of_container).or_else(|| {
        let scheduled = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled")?;
        let since = scheduled.last_transition_time.as_ref().map_or(now, |time| time.0);
        let lasts = now.duration_since(since) >= jiff::SignedDuration::try_from(WAITS_FOR_A_NODE).ok()?;
        let said = quoted(scheduled.message.as_deref().unwrap_or_default());
        let volume = ["volume", "storageclass"].iter().any(|word| said.to_lowercase().contains(word));
        match (scheduled.status == "False" && lasts, volume) {
            (false, _) => None,
            (true, true) => Some((Cause::Volume, format!("volume pending: {said}"))),
            (true, false) => Some((Cause::Node, format!("no node has room: {said}"))),
        }
    })
}

fn of_container(container: &ContainerStatus) -> Option<(Cause, String)> {
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let said = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let image = &container.image;
    match waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default() {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
        | "ImageInspectError" => {
            let missing = ["not found", "manifest unknown", "not present"].iter().any(|it| said.contains(it));
            let what = if missing {
                format!("image not found: {image}")
            } else {
                format!("image cannot be pulled: {image}: {}", quoted(said))
            };
            return Some((Cause::Image, what));
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            return Some((Cause::Container, quoted(said)));
        }
        _ => {}
    }
    let now = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    now.or(before).map(ended)
}

/// Containers leave the end of their log where their process failed (`terminationMessagePolicy`).
fn ended(end: &ContainerStateTerminated) -> (Cause, String) {
    if end.reason.as_deref() == Some("OOMKilled") {
        return (Cause::Memory, "killed, because it needs more memory than its limit".to_owned());
    }
    let last = end.message.iter().flat_map(|log| log.lines()).rfind(|line| !line.trim().is_empty());
    let said = last.map(|line| format!(": {}", quoted(line))).unwrap_or_default();
    (Cause::Crash, format!("crashes, exit code {}{said}", end.exit_code))
}

/// One line, not too long.
fn quoted(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    if line.chars().count() <= QUOTED { line } else { line.chars().take(QUOTED).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:01:00Z";

    fn pod(component: &str, status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": labels::labels("shop", component)},
            "spec": {"containers": [{"name": component, "image": "crm:2"}]},
            "status": status,
        }))
        .unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"containerStatuses": [{"name": "crm", "image": "crm:2", "imageID": "", "ready": false,
            "restartCount": 0, "state": state, "lastState": last}]})
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(&json!({"waiting": {"reason": reason, "message": message}}), &json!({}))
    }

    fn found(pods: &[Pod]) -> Vec<(&'static str, String)> {
        let found = troubles(pods, |_| Some("crm:2"), NOW.parse().unwrap());
        found.into_iter().map(|trouble| (trouble.cause.reason(), trouble.message)).collect()
    }

    #[test]
    fn each_trouble_of_a_pod_has_a_reason_and_says_what_to_look_at() {
        let unschedulable = |since: &str, message: &str| {
            json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "lastTransitionTime": since, "message": message}]})
        };
        let crash =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "message": "first\nno Redis URL\n"}});
        let back_off = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let long_ago = "2026-01-01T00:00:30Z";
        let no_room = "0/1 nodes are available: 1 Insufficient cpu.";
        let unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
        for (status, expected) in [
            (
                waiting("ErrImagePull", "rpc error: code = NotFound: crm:2: not found"),
                Some(("ImageNotPulled", "crm: image not found: crm:2")),
            ),
            (
                waiting("ImagePullBackOff", "dial tcp:\n connection refused"),
                Some(("ImageNotPulled", "crm: image cannot be pulled: crm:2: dial tcp: connection refused")),
            ),
            (
                waiting("CreateContainerConfigError", r#"secret "smtp" not found"#),
                Some(("ContainerNotCreated", r#"crm: secret "smtp" not found"#)),
            ),
            (container(&back_off, &crash), Some(("Crashes", "crm: crashes, exit code 1: no Redis URL"))),
            (
                container(&json!({"running": {}}), &crash),
                Some(("Crashes", "crm: crashes, exit code 1: no Redis URL")),
            ),
            (
                container(&killed, &json!({})),
                Some(("OutOfMemory", "crm: killed, because it needs more memory than its limit")),
            ),
            (
                unschedulable(long_ago, no_room),
                Some((
                    "Unschedulable",
                    "crm: no node has room: 0/1 nodes are available: 1 Insufficient cpu.",
                )),
            ),
            (
                unschedulable(long_ago, unbound),
                Some((
                    "VolumePending",
                    "crm: volume pending: 0/1 nodes are available: pod has unbound immediate \
                     PersistentVolumeClaims.",
                )),
            ),
            (unschedulable("2026-01-01T00:00:55Z", no_room), None),
            (waiting("ContainerCreating", ""), None),
            (container(&json!({"running": {}}), &json!({})), None),
            (json!({}), None),
        ] {
            let expected: Vec<_> =
                expected.map(|(reason, text)| (reason, text.to_owned())).into_iter().collect();
            assert_eq!(found(&[pod("crm", &status)]), expected);
        }
    }

    #[test]
    fn a_component_is_named_once_and_what_is_on_its_way_out_not_at_all() {
        let bad = waiting("ErrImagePull", "not found");
        assert_eq!(found(&[pod("crm", &bad), pod("crm", &bad), pod("order", &bad)]).len(), 2);
        let mut deleted = pod("crm", &bad);
        deleted.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let mut outdated = pod("crm", &bad);
        outdated.spec.as_mut().unwrap().containers[0].image = Some("crm:1".to_owned());
        assert_eq!(found(&[deleted, outdated]), []);
    }

    #[test]
    fn a_long_message_is_cut() {
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), QUOTED + 1);
    }
}
