//! Sends the shop's mails: one for each `mail_requested`, by SMTP or into its own log, and appends
//! what became of it.
//!
//! It decides nothing about mails: when one is due and how it reads stands in the event. A mail can
//! go out twice when the process is killed between the server's "accepted" and the end of the
//! event; both then carry the same Message-ID, by which mail programs recognise a duplicate.

mod delivery;
mod handler;
mod message;
mod smtp_url;

use chassis::config::{CommonArgs, RedisArgs};
use chassis::{Service, kinds};
use clap::Parser;
use delivery::Delivery;
use event_store::{Subscription, TypedEvent};
use handler::{Mailer, Request};
use lettre::message::Mailbox;
use smtp_url::Server;
use std::process::ExitCode;

/// Sends the shop's mails.
#[derive(Parser, Clone, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    redis: RedisArgs,

    /// The mail server: `smtp://[user:password@]host[:port]`. Without one, each mail goes to the log.
    ///
    /// Set it where mails are to reach people. The connection is not encrypted: use a relay in the
    /// same trusted network.
    #[arg(
        long,
        env = "ORDERSHOP_SMTP_URL",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true,
        value_name = "URL"
    )]
    smtp_url: Server,

    /// The sender's address.
    ///
    /// Change it with --smtp-url, to an address that the mail server lets this shop use. Its domain is
    /// also that of the Message-ID.
    #[arg(
        long,
        env = "ORDERSHOP_MAIL_FROM",
        default_value = "ordershop@example.com",
        value_name = "ADDRESS"
    )]
    mail_from: Mailbox,
}

fn main() -> ExitCode {
    let args = Args::parse();
    Service::new("notification", args.common).run(async move |app| {
        let store = app.connect(&args.redis, [kinds::MAIL]).await;
        let mailer = Mailer::new(Delivery::new(&args.smtp_url), args.mail_from);
        let subscription = Subscription::new("notification", app.consumer()).streams(Request::streams());
        app.subscribe(&store, subscription, mailer);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(arguments: &[&str]) -> Server {
        Args::try_parse_from([&["x"], arguments].concat()).unwrap().smtp_url
    }

    #[test]
    fn without_a_server_or_with_an_empty_one_mails_go_to_the_log() {
        assert_eq!(server(&[]), Server::Log);
        assert_eq!(server(&["--smtp-url", ""]), Server::Log);
        assert!(matches!(server(&["--smtp-url", "smtp://mail:25"]), Server::Smtp(_)));
        assert!(Args::try_parse_from(["x", "--smtp-url", "mail:25"]).is_err());
    }
}
