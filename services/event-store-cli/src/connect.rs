//! Opening the store that the command line names. Its URL may hold a password, so it is never printed.

use crate::args::Server;
use crate::exit::Failure;
use event_store::doctor::Access;
use event_store::{Config, EventStore, Layout};

/// How the store is reached.
pub(crate) fn config(server: &Server) -> Result<Config, Failure> {
    let mut urls = server.url.iter();
    let config = match (&server.sentinel, urls.next()) {
        (_, None) => return Err(Failure::Usage("--url names no server".to_owned())),
        (Some(name), _) => Config::sentinel(name, &server.url),
        (None, Some(first)) => urls.fold(Config::new(first), Config::node),
    };
    Ok(config.layout(Layout::from(server.layout)))
}

/// The store, for commands that only look: they need no right to write and run on a replica too.
pub(crate) async fn look(server: &Server) -> Result<EventStore, Failure> {
    Ok(EventStore::connect(config(server)?.access(Access::ReadOnly)).await?)
}

/// The store, for commands that change something.
pub(crate) async fn change(server: &Server) -> Result<EventStore, Failure> {
    Ok(EventStore::connect(config(server)?).await?)
}
