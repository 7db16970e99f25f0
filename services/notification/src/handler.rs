//! What becomes of a requested mail: sent, failed for good, or tried again.

use crate::delivery::{Delivery, Undelivered};
use chassis::events::Mails;
use domain::Mail;
use event_store::{EntityType, Event, Outcome, TypedHandler};
use lettre::message::Mailbox;

event_store::events! {
    /// What there is to do.
    #[derive(Debug)]
    pub(crate) enum Request {
        Send(Mails) = put "requested",
    }
}

/// Handles requests for mails.
pub(crate) struct Mailer {
    delivery: Delivery,
    from: Mailbox,
}

impl Mailer {
    pub(crate) fn new(delivery: Delivery, from: Mailbox) -> Self {
        Self { delivery, from }
    }
}

impl TypedHandler for Mailer {
    type Event = Request;

    async fn handle(&self, Request::Send(mail): Request, _: &Event) -> Outcome {
        let delivered = self.delivery.deliver(&mail, &self.from).await;
        if let Err(reason) = &delivered {
            tracing::warn!(mail = mail.id, ?reason, "mail not delivered");
        }
        outcome(mail, delivered)
    }
}

fn outcome(mail: Mail, delivered: Result<(), Undelivered>) -> Outcome {
    match delivered {
        Ok(()) => Outcome::Done(vec![Mails::put("sent", &mail)]),
        Err(Undelivered::Refused(reason)) => {
            Outcome::Done(vec![Mails::put("failed", &Mail { error: Some(reason), ..mail })])
        }
        Err(Undelivered::NotNow(reason)) => Outcome::Retry(reason),
    }
}
