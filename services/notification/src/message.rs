//! A mail of the shop as an Internet message. Sends nothing.

use domain::Mail;
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, Message};

/// Why a mail can be no message; trying again does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidMail {
    #[error("{0:?} is no address: {1}")]
    Address(String, lettre::address::AddressError),
    #[error("the message cannot be written: {0}")]
    Message(#[from] lettre::error::Error),
}

/// The Message-ID: the same whenever this mail is sent.
pub(crate) fn message_id(mail: &Mail, from: &Mailbox) -> String {
    format!("<{}@{}>", mail.id, from.email.domain())
}

/// The message.
pub(crate) fn message(mail: &Mail, from: &Mailbox) -> Result<Message, InvalidMail> {
    let to: Address = mail.to.parse().map_err(|error| InvalidMail::Address(mail.to.clone(), error))?;
    Ok(Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&mail.subject)
        .message_id(Some(message_id(mail, from)))
        .singlepart(SinglePart::plain(mail.body.clone()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::MailKind;

    fn mail(to: &str, subject: &str) -> Mail {
        Mail {
            id: "6d3ff6f4".to_owned(),
            kind: MailKind::Welcome,
            to: to.to_owned(),
            customer_id: "c".to_owned(),
            subject: subject.to_owned(),
            body: "Dear Ann!".to_owned(),
            error: None,
        }
    }

    fn from() -> Mailbox {
        "Shop <shop@example.com>".parse().unwrap()
    }

    #[test]
    fn a_mail_has_one_message_id_however_often_it_is_sent() {
        for _ in 0..2 {
            let message = message(&mail("ann@example.org", "Hi"), &from()).unwrap();
            let text = String::from_utf8(message.formatted()).unwrap();
            assert!(text.contains("Message-ID: <6d3ff6f4@example.com>\r\n"), "{text}");
        }
    }

    #[test]
    fn a_subject_cannot_add_a_header_or_a_recipient() {
        let message = message(&mail("ann@example.org", "Hi\r\nBcc: eve@example.org"), &from()).unwrap();
        assert_eq!(message.envelope().to().len(), 1);
        let text = String::from_utf8(message.formatted()).unwrap();
        assert!(!text.contains("\nBcc:"), "{text}");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in ["", "ann", "ann@", "a@b.c\r\nRCPT TO:<eve@example.org>", "a b@c.d"] {
            assert!(matches!(message(&mail(bad, "Hi"), &from()), Err(InvalidMail::Address(..))), "{bad}");
        }
    }
}
