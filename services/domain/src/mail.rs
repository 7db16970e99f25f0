//! Mails: when one is due, to whom, and how it reads. Each is a function of one event alone, whose
//! entity carries snapshots, so a mail never depends on what happened after its event.

use crate::billing::Billing;
use crate::entity::Customer;
use crate::money;
use crate::order::Order;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// A customer was created.
    Welcome,
    /// A customer was deleted.
    Goodbye,
    /// An order was confirmed: thanks.
    ThankYou,
    /// An order was confirmed: please pay.
    Transfer,
    /// A payment was recorded.
    Receipt,
}

impl MailKind {
    /// Its name, as in the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Goodbye => "goodbye",
            Self::ThankYou => "thank_you",
            Self::Transfer => "transfer",
            Self::Receipt => "receipt",
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Welcome => "Welcome to Ordershop",
            Self::Goodbye => "Good bye from Ordershop",
            Self::ThankYou => "Thank you for your order",
            Self::Transfer => "Please transfer the amount of your order",
            Self::Receipt => "We received your transfer",
        }
    }
}

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its id: the same whenever it is derived from the same event.
    pub id: String,
    /// What it is about.
    pub kind: MailKind,
    /// The address.
    pub to: String,
    /// The customer.
    pub customer_id: String,
    /// The subject.
    pub subject: String,
    /// The text, lines separated by a line feed.
    pub body: String,
    /// Why it could not be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// To whom a mail goes.
struct To<'a> {
    customer_id: &'a str,
    name: &'a str,
    email: &'a str,
}

fn mail(kind: MailKind, cause: Uuid, to: &To<'_>, middle: &[&str]) -> Mail {
    let greeting = format!("Dear {}!", to.name);
    let lines: Vec<&str> =
        [greeting.as_str()].into_iter().chain(middle.iter().copied()).chain(["Cheers"]).collect();
    Mail {
        id: Uuid::new_v5(&cause, kind.name().as_bytes()).to_string(),
        kind,
        to: to.email.to_owned(),
        customer_id: to.customer_id.to_owned(),
        subject: kind.subject().to_owned(),
        body: lines.join("\n"),
        error: None,
    }
}

fn of_customer(customer: &Customer) -> To<'_> {
    To { customer_id: &customer.id, name: &customer.name, email: &customer.email }
}

fn of_order(order: &Order) -> To<'_> {
    To { customer_id: &order.customer_id, name: &order.customer.name, email: &order.customer.email }
}

/// The welcome of a created customer.
#[must_use]
pub fn welcome(cause: Uuid, customer: &Customer) -> Mail {
    mail(MailKind::Welcome, cause, &of_customer(customer), &["Welcome to Ordershop."])
}

/// The goodbye to a deleted customer.
#[must_use]
pub fn goodbye(cause: Uuid, customer: &Customer) -> Mail {
    let line = "Good bye, hope to see you soon again at Ordershop.";
    mail(MailKind::Goodbye, cause, &of_customer(customer), &[line])
}

/// The thanks for an order, when it was confirmed for the first time.
#[must_use]
pub fn thank_you(cause: Uuid, order: &Order) -> Option<Mail> {
    order.is_first_confirmation().then(|| {
        let names: Vec<&str> = order.items.iter().map(|item| item.name.as_str()).collect();
        let line = format!("Thank you for buying following {} products from Ordershop:", names.len());
        mail(MailKind::ThankYou, cause, &of_order(order), &[&line, &names.join(", ")])
    })
}

/// The request to pay, when the order was confirmed for the first time.
#[must_use]
pub fn transfer(cause: Uuid, order: &Order) -> Option<Mail> {
    order.is_first_confirmation().then(|| {
        let sum = money::text(money::sum(&order.items));
        let line = format!("Please transfer {sum} with your favourite payment method.");
        mail(MailKind::Transfer, cause, &of_order(order), &[&line])
    })
}

/// The receipt of a payment.
#[must_use]
pub fn receipt(cause: Uuid, billing: &Billing) -> Mail {
    let sum = money::text(billing.amount);
    let line = format!("We've just received {sum} from you, thank you for your transfer.");
    let customer = &billing.customer;
    let to = To { customer_id: &customer.id, name: &customer.name, email: &customer.email };
    mail(MailKind::Receipt, cause, &to, &[&line])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::tests::order;
    use crate::order::{Change, Status};

    const CAUSE: Uuid = Uuid::from_u128(7);

    fn ann() -> Customer {
        Customer { id: "c".into(), name: "Ann".into(), email: "ann@example.com".into() }
    }

    fn first_confirmation() -> Order {
        Order { change: Change::Confirmed, confirmations: 1, ..order(Status::Confirmed) }
    }

    #[test]
    fn the_texts_are_those_of_the_contract() {
        let billing = Billing::of("b".into(), &order(Status::Confirmed), 1.0).unwrap();
        let table = [
            (welcome(CAUSE, &ann()), "Dear Ann!\nWelcome to Ordershop.\nCheers"),
            (goodbye(CAUSE, &ann()), "Dear Ann!\nGood bye, hope to see you soon again at Ordershop.\nCheers"),
            (
                thank_you(CAUSE, &first_confirmation()).unwrap(),
                "Dear Ann!\nThank you for buying following 2 products from Ordershop:\nProduct x, Product y\nCheers",
            ),
            (
                transfer(CAUSE, &first_confirmation()).unwrap(),
                "Dear Ann!\nPlease transfer € 3.00 with your favourite payment method.\nCheers",
            ),
            (
                receipt(CAUSE, &billing),
                "Dear Ann!\nWe've just received € 3.00 from you, thank you for your transfer.\nCheers",
            ),
        ];
        for (mail, text) in table {
            assert_eq!(mail.body, text);
            assert_eq!((mail.to.as_str(), mail.customer_id.as_str()), ("ann@example.com", "c"));
            assert!(mail.error.is_none() && !mail.subject.is_empty());
        }
    }

    #[test]
    fn an_order_is_thanked_for_once_however_often_it_is_confirmed_or_billed() {
        let table = [
            (Change::Confirmed, 1, true),
            (Change::Confirmed, 2, false),
            (Change::Billed, 1, false),
            (Change::Rejected, 1, false),
            (Change::Changed, 1, false),
        ];
        for (change, confirmations, due) in table {
            let order = Order { change, confirmations, ..order(Status::Confirmed) };
            assert_eq!(thank_you(CAUSE, &order).is_some(), due, "{change:?} {confirmations}");
            assert_eq!(transfer(CAUSE, &order).is_some(), due, "{change:?} {confirmations}");
        }
    }

    #[test]
    fn a_mail_derived_twice_is_one_mail_and_two_kinds_are_two() {
        let order = first_confirmation();
        assert_eq!(thank_you(CAUSE, &order), thank_you(CAUSE, &order));
        assert_ne!(thank_you(CAUSE, &order).unwrap().id, transfer(CAUSE, &order).unwrap().id);
        assert_ne!(welcome(CAUSE, &ann()).id, welcome(Uuid::from_u128(8), &ann()).id);
    }

    #[test]
    fn a_kind_reads_as_its_name() {
        for kind in
            [MailKind::Welcome, MailKind::Goodbye, MailKind::ThankYou, MailKind::Transfer, MailKind::Receipt]
        {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
