//! How the notification service sends mails.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretKey;

/// How the notification service sends mails.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailSpec {
    /// The Secret that holds the mail server's URL, `smtp://user:password@host:587`. When the Secret changes,
    /// the notification service is rolled. Default: none, and mails are written to the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smtp_secret: Option<SecretKey>,
}
