//! Opening the store that the command line names. Its URL may hold a password, so it is never printed.

use crate::args::Server;
use crate::exit::Failure;
use event_store::doctor::Access;
use event_store::{Config, EventStore, Layout};

/// How the store is reached. Its layout is the one that its programs have settled, unless the command line says one.
pub(crate) async fn config(server: &Server) -> Result<Config, Failure> {
    let config = place(server)?;
    let layout = match server.layout {
        Some(layout) => Layout::from(layout),
        None => EventStore::settled_layout(&config).await?.unwrap_or_default(),
    };
    Ok(config.layout(layout))
}

fn place(server: &Server) -> Result<Config, Failure> {
    let mut urls = server.url.iter();
    match (&server.sentinel, urls.next()) {
        (_, None) => Err(Failure::Usage("--url names no server".to_owned())),
        (Some(name), _) => Ok(Config::sentinel(name, &server.url)),
        (None, Some(first)) => Ok(urls.fold(Config::new(first), Config::node)),
    }
}

/// The store, for commands that only look: they need no right to write and run on a replica too.
pub(crate) async fn look(server: &Server) -> Result<EventStore, Failure> {
    Ok(EventStore::connect(config(server).await?.access(Access::ReadOnly)).await?)
}

/// The store, for commands that change something.
pub(crate) async fn change(server: &Server) -> Result<EventStore, Failure> {
    Ok(EventStore::connect(config(server).await?).await?)
}
