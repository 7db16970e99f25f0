//! Hands a message to whoever brings it on: a mail server, or the log. Says of a failure only
//! whether trying again can help.

use crate::message::{InvalidMail, message, message_id};
use crate::smtp_url::Server;
use chassis::with_causes;
use domain::Mail;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::response::{Category, Code, Severity};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::time::Duration;

/// For each step of a conversation with the server.
const STEP_BOUND: Duration = Duration::from_secs(10);

/// Where mails go.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Log,
}

/// A mail that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// Never will be: the address or the mail itself was refused.
    Refused(String),
    /// Perhaps later: the server is away, busy, or does not let us in.
    NotNow(String),
}

impl From<InvalidMail> for Undelivered {
    fn from(error: InvalidMail) -> Self {
        Self::Refused(error.to_string())
    }
}

impl Delivery {
    pub(crate) fn new(server: &Server) -> Self {
        let Server::Smtp(server) = server else {
            tracing::info!("no mail server is configured: mails are written to this log");
            return Self::Log;
        };
        tracing::info!(?server, "mails go to a server");
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .timeout(Some(STEP_BOUND));
        if let Some((user, password)) = server.login.clone() {
            builder = builder.credentials(Credentials::new(user, password));
        }
        Self::Smtp(builder.build())
    }

    pub(crate) async fn deliver(&self, mail: &Mail, from: &Mailbox) -> Result<(), Undelivered> {
        let message = message(mail, from)?;
        match self {
            Self::Log => {
                let message_id = message_id(mail, from);
                tracing::info!(message_id, to = mail.to, subject = mail.subject, body = mail.body, "mail");
                Ok(())
            }
            Self::Smtp(server) => match server.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => Err(undelivered(error.status(), with_causes(&error))),
            },
        }
    }
}

fn undelivered(status: Option<Code>, reason: String) -> Undelivered {
    match status {
        Some(code) if is_about_the_mail(code) => Undelivered::Refused(reason),
        _ => Undelivered::NotNow(reason),
    }
}

/// A permanent refusal is about this mail, unless the server says that it does not let us in
/// (53x, RFC 4954), takes no mail at all (52x, RFC 7504) or does not know a command (500, 502, 503,
/// 504): then the mail is fine and the configuration is not, and no mail may be lost by that.
fn is_about_the_mail(code: Code) -> bool {
    let of_the_conversation = match code.category {
        Category::Connections | Category::Unspecified3 => true,
        Category::Syntax => code.detail as u8 != 1,
        _ => false,
    };
    code.severity == Severity::PermanentNegativeCompletion && !of_the_conversation
}

#[cfg(test)]
mod tests {
    use super::*;
    use lettre::transport::smtp::response::Response;

    fn code(number: &str) -> Code {
        let response: Response = format!("{number} text\r\n").parse().unwrap();
        response.code()
    }

    #[test]
    fn only_a_permanent_refusal_of_the_mail_itself_is_final() {
        for (number, is_final) in [
            ("550", true),
            ("551", true),
            ("552", true),
            ("553", true),
            ("554", true),
            ("501", true),
            ("421", false),
            ("450", false),
            ("451", false),
            ("452", false),
            ("500", false),
            ("502", false),
            ("503", false),
            ("521", false),
            ("530", false),
            ("535", false),
        ] {
            let result = undelivered(Some(code(number)), String::new());
            assert_eq!(matches!(result, Undelivered::Refused(_)), is_final, "{number}");
        }
        assert_eq!(undelivered(None, "refused".to_owned()), Undelivered::NotNow("refused".to_owned()));
    }
}
