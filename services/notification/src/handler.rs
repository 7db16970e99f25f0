//! What becomes of a requested mail: sent, failed for good, or tried again.

use crate::delivery::{Delivery, Undelivered};
use chassis::events;
use domain::Mail;
use event_store::{Event, Handler, Outcome};
use lettre::message::Mailbox;

/// Handles `mail_requested`.
pub(crate) struct Mailer {
    delivery: Delivery,
    from: Mailbox,
}

impl Mailer {
    pub(crate) fn new(delivery: Delivery, from: Mailbox) -> Self {
        Self { delivery, from }
    }
}

impl Handler for Mailer {
    async fn handle(&self, event: &Event) -> Outcome {
        let mail: Mail = match events::decode(event) {
            Ok(mail) => mail,
            Err(outcome) => return outcome,
        };
        let delivered = self.delivery.deliver(&mail, &self.from).await;
        if let Err(reason) = &delivered {
            tracing::warn!(mail = mail.id, ?reason, "mail not delivered");
        }
        outcome(mail, delivered)
    }
}

fn outcome(mail: Mail, delivered: Result<(), Undelivered>) -> Outcome {
    match delivered {
        Ok(()) => Outcome::Done(vec![events::mail("sent", &mail)]),
        Err(Undelivered::Refused(reason)) => {
            Outcome::Done(vec![events::mail("failed", &Mail { error: Some(reason), ..mail })])
        }
        Err(Undelivered::NotNow(reason)) => Outcome::Retry(reason),
    }
}
