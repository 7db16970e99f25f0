//! The address of a mail server as one text. Opens no connection.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use url::Url;

const DEFAULT_PORT: u16 = 25;

/// `smtp://[user:password@]host[:port]`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SmtpUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<(String, String)>,
}

/// Never shows the password.
impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "smtp://{}:{}", self.host, self.port)
    }
}

/// Why a text is no address of a mail server. Carries none of the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address of a mail server: expected smtp://[user:password@]host[:port]")]
pub(crate) struct InvalidSmtpUrl;

/// Where mails go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Nowhere but into the log.
    Log,
    Smtp(SmtpUrl),
}

/// An empty text is no server, as a variable that is set to nothing.
impl FromStr for Server {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Ok(Self::Log) } else { text.parse().map(Self::Smtp) }
    }
}

impl FromStr for SmtpUrl {
    type Err = InvalidSmtpUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| InvalidSmtpUrl)?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "smtp" || !bare {
            return Err(InvalidSmtpUrl);
        }
        let decoded = |text: &str| {
            percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| InvalidSmtpUrl)
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decoded(user)?, decoded(password.unwrap_or(""))?)),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(InvalidSmtpUrl)?;
        // A literal IPv6 address stands in brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: url.port().unwrap_or(DEFAULT_PORT), login })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_host_and_may_have_a_port_and_a_login() {
        let plain: SmtpUrl = "smtp://mail.example.com".parse().unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.login), ("mail.example.com", 25, None));
        let full: SmtpUrl = "smtp://us%40er:p%3Ass@[::1]:2525/".parse().unwrap();
        assert_eq!((full.host.as_str(), full.port), ("::1", 2525));
        assert_eq!(full.login, Some(("us@er".to_owned(), "p:ss".to_owned())));
    }

    #[test]
    fn what_would_be_understood_as_something_else_is_refused() {
        for bad in [
            "",
            "mail:25",
            "smtp://",
            "smtps://mail",
            "http://mail",
            "smtp://mail/x",
            "smtp://mail?tls=required",
        ] {
            assert_eq!(bad.parse::<SmtpUrl>(), Err(InvalidSmtpUrl), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: SmtpUrl = "smtp://u:secret@mail".parse().unwrap();
        assert!(!format!("{url:?}").contains("secret"));
        assert!(!"smtp//u:secret@".parse::<SmtpUrl>().unwrap_err().to_string().contains("secret"));
    }
}
