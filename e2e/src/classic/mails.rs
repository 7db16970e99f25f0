//! The contract's five mails: as they must be, as they were sent, and the difference. Pure.

use super::client::Customer;
use anyhow::{Result, ensure};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// A mail as the contract has it. Line breaks are written as spaces, so that only words are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mail {
    /// What it is about: `welcome`, `goodbye`, `thank_you`, `transfer`, `receipt`.
    pub kind: String,
    /// The address.
    pub to: String,
    /// The text.
    pub text: String,
}

/// A mail as `events:mail_sent` holds it.
#[derive(Debug, Clone, Deserialize)]
pub struct ReceivedMail {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub kind: String,
    /// The address.
    pub to: String,
    /// The customer.
    pub customer_id: String,
    /// The text.
    pub body: String,
}

impl Mail {
    fn new(kind: &str, customer: &Customer, middle: &str) -> Self {
        let text = format!("Dear {}! {middle} Cheers", customer.name);
        Self { kind: kind.to_owned(), to: customer.email.clone(), text }
    }

    /// Because the customer was created.
    #[must_use]
    pub fn welcome(customer: &Customer) -> Self {
        Self::new("welcome", customer, "Welcome to Ordershop.")
    }

    /// Because the customer was deleted.
    #[must_use]
    pub fn goodbye(customer: &Customer) -> Self {
        Self::new("goodbye", customer, "Good bye, hope to see you soon again at Ordershop.")
    }

    /// Because an order was confirmed.
    #[must_use]
    pub fn thank_you(customer: &Customer, products: &[String]) -> Self {
        let (count, names) = (products.len(), products.join(", "));
        let text = format!("Thank you for buying following {count} products from Ordershop: {names}");
        Self::new("thank_you", customer, &text)
    }

    /// Because an order was confirmed and is to be paid.
    #[must_use]
    pub fn transfer(customer: &Customer, sum: f64) -> Self {
        let text = format!("Please transfer € {sum:.2} with your favourite payment method.");
        Self::new("transfer", customer, &text)
    }

    /// Because an order was paid.
    #[must_use]
    pub fn receipt(customer: &Customer, sum: f64) -> Self {
        let text = format!("We've just received € {sum:.2} from you, thank you for your transfer.");
        Self::new("receipt", customer, &text)
    }
}

impl From<&ReceivedMail> for Mail {
    fn from(mail: &ReceivedMail) -> Self {
        let words: Vec<_> = mail.body.split_whitespace().collect();
        Self { kind: mail.kind.clone(), to: mail.to.clone(), text: words.join(" ") }
    }
}

/// An error unless exactly the expected mails were sent, each as often as expected.
pub fn compare(expected: &[Mail], sent: &[ReceivedMail]) -> Result<()> {
    let mut balance: BTreeMap<Mail, i32> = BTreeMap::new();
    for mail in expected {
        *balance.entry(mail.clone()).or_default() += 1;
    }
    for mail in sent {
        *balance.entry(mail.into()).or_default() -= 1;
    }
    balance.retain(|_, count| *count != 0);
    let lines: Vec<_> = balance
        .iter()
        .map(|(mail, count)| {
            let what = if *count > 0 { "missing" } else { "too many" };
            format!("{what} ({}): {} to {}: {}", count.abs(), mail.kind, mail.to, mail.text)
        })
        .collect();
    ensure!(lines.is_empty(), "{} mails expected, {} sent\n{}", expected.len(), sent.len(), lines.join("\n"));
    Ok(())
}

/// An error unless each customer's mails were sent in the order of the given ones.
///
/// Only kinds that occur among the given mails are looked at: mails of another origin may come in between.
pub fn check_order_per_customer(expected: &[Mail], sent: &[ReceivedMail]) -> Result<()> {
    let sent: Vec<Mail> = sent.iter().map(Mail::from).collect();
    let known = |mail: &&Mail| expected.iter().any(|e| e.kind == mail.kind);
    let per_customer = |mails: &[Mail]| {
        let mut by: HashMap<String, Vec<Mail>> = HashMap::new();
        for mail in mails.iter().filter(known) {
            by.entry(mail.to.clone()).or_default().push(mail.clone());
        }
        by
    };
    let (expected, sent) = (per_customer(expected), per_customer(&sent));
    for (customer, mails) in &expected {
        let got = sent.get(customer).map_or(&[] as &[Mail], Vec::as_slice);
        ensure!(got == mails.as_slice(), "{customer} expected in this order {mails:#?}\nbut got {got:#?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(name: &str) -> Customer {
        Customer { id: name.into(), name: name.into(), email: format!("{name}@server.com") }
    }

    fn received(mail: &Mail) -> ReceivedMail {
        ReceivedMail {
            id: String::new(),
            kind: mail.kind.clone(),
            to: mail.to.clone(),
            customer_id: String::new(),
            body: mail.text.replace("! ", "!\n"),
        }
    }

    #[test]
    fn a_mail_that_was_sent_twice_is_found() {
        let expected = [Mail::welcome(&customer("ada"))];
        let sent = [received(&expected[0]), received(&expected[0])];
        assert!(compare(&expected, &sent[..1]).is_ok());
        assert!(compare(&expected, &sent).unwrap_err().to_string().contains("too many"));
        assert!(compare(&expected, &[]).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn a_thank_you_before_the_welcome_is_found() {
        let ada = customer("ada");
        let expected = [Mail::welcome(&ada), Mail::thank_you(&ada, &["Cup".into()])];
        let in_order: Vec<_> = expected.iter().map(received).collect();
        let reversed: Vec<_> = expected.iter().rev().map(received).collect();
        assert!(check_order_per_customer(&expected, &in_order).is_ok());
        assert!(check_order_per_customer(&expected, &reversed).is_err());
    }

    #[test]
    fn mails_of_other_kinds_may_come_between() {
        let ada = customer("ada");
        let expected = [Mail::welcome(&ada), Mail::thank_you(&ada, &["Cup".into()])];
        let sent = [&expected[0], &Mail::transfer(&ada, 1.0), &expected[1]].map(received);
        assert!(check_order_per_customer(&expected, &sent).is_ok());
    }
}
