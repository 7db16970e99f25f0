//! The passwords of Redis over a shop's life: made once, rotated without a moment in which a service knows none.

use k8s_openapi::api::core::v1::Secret;

use super::*;
use crate::controller::passwords::EDITION;

const SECRET: &str = "secrets/shop-redis";

impl Trial {
    fn secret(&self) -> Secret {
        serde_json::from_value(self.server.get(SECRET).unwrap()).unwrap()
    }

    /// The users of Redis who have passwords, as the pods of Redis would read them now.
    fn users(&self) -> String {
        let file = String::from_utf8(self.secret().data.unwrap()["acl"].0.clone()).unwrap();
        let (nobody, users) = file.split_once('\n').unwrap();
        assert!(nobody.starts_with("user default "));
        users.to_owned()
    }

    fn rotate(&self, to: &str) {
        self.edit_spec(|spec| spec["redis"] = json!({ "passwordRotation": to }));
    }

    /// The edition that the pods of a workload use.
    fn edition(&self, path: &str) -> String {
        let template = &self.server.get(path).unwrap()["spec"]["template"];
        template["metadata"]["annotations"][EDITION].as_str().unwrap().to_owned()
    }
}

fn count(writes: &[String], prefix: &str) -> usize {
    writes.iter().filter(|write| write.starts_with(prefix)).count()
}

#[tokio::test]
async fn the_passwords_are_there_before_any_pod_and_stay_over_restarts() {
    let trial = Trial::new("{}");
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    let place = |write: &str| writes.iter().position(|found| found == write).unwrap();
    assert!(place("PATCH secrets/shop-redis") < place("PATCH statefulsets/shop-redis"));

    let before = trial.secret();
    let restarted = Trial::with(trial.server);
    restarted.reconcile().await.unwrap();
    assert_eq!(count(&restarted.server.writes(), "PATCH secrets"), 0);
    assert_eq!(restarted.secret(), before);
}

#[tokio::test]
async fn a_rotation_rolls_redis_then_the_services_and_then_drops_the_old_passwords() {
    let trial = Trial::running("{}").await;
    let (old, users) = (trial.edition("deployments/shop-crm"), trial.users());

    trial.rotate("2026-11-23");
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    assert_eq!(count(&writes, "PATCH deployments"), 0, "Redis does not know the new passwords yet");
    assert_eq!((count(&writes, "PATCH secrets"), count(&writes, "PATCH statefulsets")), (1, 1));
    let (new, both) = (trial.edition("statefulsets/shop-redis"), trial.users());
    assert_ne!(old, new);
    for (before, now) in users.lines().zip(both.lines()) {
        let hash = before.split(' ').find(|word| word.starts_with('#')).unwrap();
        assert!(now.contains(hash) && now.matches('#').count() == 2, "both are valid: {now}");
    }

    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    assert_eq!(count(&writes, "PATCH deployments"), 8, "the gateway knows no password");
    assert_eq!(trial.edition("deployments/shop-crm"), new);
    assert_eq!(trial.users(), both, "pods of the old edition are still there");

    trial.server.run("deployments");
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    assert_eq!((count(&writes, "PATCH secrets"), count(&writes, "PATCH statefulsets")), (1, 1));
    assert_eq!(count(&writes, "PATCH deployments"), 0);
    for line in trial.users().lines() {
        assert_eq!(line.matches('#').count(), 1, "{line}");
        assert!(!users.contains(line), "{line}");
    }

    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    trial.server.requests();
    trial.reconcile().await.unwrap();
    assert_eq!(sorted(trial.server.requests()), READS);
}

#[tokio::test]
async fn a_service_that_does_not_come_up_keeps_the_old_passwords_valid() {
    let trial = Trial::running("{}").await;
    trial.rotate("1");
    trial.reconcile().await.unwrap();
    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    trial.server.run("deployments");
    trial.server.edit("deployments/shop-order", |order| order["status"]["availableReplicas"] = json!(0));
    trial.reconcile().await.unwrap();
    assert!(trial.users().lines().all(|line| line.matches('#').count() == 2));
}

#[tokio::test]
async fn pods_wait_while_the_passwords_cannot_be_written() {
    let trial = Trial::running("{}").await;
    trial.server.refuse(SECRET);
    trial.rotate("1");
    for _ in 0..2 {
        trial.reconcile().await.unwrap_err();
        let writes = trial.server.writes();
        assert_eq!(
            count(&writes, "PATCH deployments") + count(&writes, "PATCH statefulsets"),
            0,
            "{writes:?}"
        );
    }
    assert_eq!(trial.condition("Degraded").1, "ApplyRefused");
}

#[tokio::test]
async fn a_lost_secret_is_made_anew_and_everything_that_uses_it_rolls() {
    let trial = Trial::running("{}").await;
    let before = trial.edition("deployments/shop-crm");
    trial.server.remove(SECRET);
    trial.reconcile().await.unwrap();
    let writes = trial.server.writes();
    assert_eq!((count(&writes, "PATCH secrets"), count(&writes, "PATCH statefulsets")), (1, 1));
    trial.server.run("statefulsets");
    trial.reconcile().await.unwrap();
    assert_eq!(count(&trial.server.writes(), "PATCH deployments"), 8);
    assert_ne!(trial.edition("deployments/shop-crm"), before);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_neither_used_nor_taken_over() {
    let trial = Trial::new("{}");
    trial.server.put(SECRET, json!({"metadata": {"name": "shop-redis"}, "data": {"x": "eA=="}}));
    trial.reconcile().await.unwrap_err();
    let writes = trial.server.writes();
    assert_eq!(count(&writes, "PATCH secrets") + count(&writes, "PATCH statefulsets"), 0);
    assert_eq!(trial.condition("Degraded").1, "NameConflict");
}
