//! The nodes of consoles in the store, and watches on them.

use core::time::Duration;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use xenstored::client::{Client, Error, Operations as _};

/// How often to try to reach a store whose daemon is being restarted.
const RETRY: Duration = Duration::from_millis(200);

/// The place of a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) gfn: u64,
    pub(crate) port: u32,
}

/// Events since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether domains may have come.
    pub(crate) look_for_new: bool,
    /// Whether domains may have gone.
    pub(crate) look_for_dead: bool,
    /// Consoles whose nodes changed.
    pub(crate) changed: Vec<u16>,
    /// Domains whose names were written.
    pub(crate) named: Vec<u16>,
}

/// The connection to the store. While the store's daemon is away, `client` is `None` and a new
/// connection is tried from `try_at` on.
pub(crate) struct StoreLink {
    client: Option<Client>,
    try_at: Instant,
    /// Domains whose consoles' nodes are watched.
    watched: BTreeSet<u16>,
}

impl StoreLink {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            client: None,
            try_at: now,
            watched: BTreeSet::new(),
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().map(|c| c.as_fd())
    }

    /// The time of the next look, if there is work before the next event.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        match &self.client {
            None => Some(self.try_at),
            // An event that arrived during a request is queued.
            Some(client) => client.has_queued_event().then_some(now),
        }
    }

    /// Connects if necessary, and takes the events that have arrived.
    pub(crate) fn news(&mut self, now: Instant) -> News {
        let mut news = News::default();
        if self.client.is_none() && now >= self.try_at {
            self.try_at = now + RETRY;
            if let Ok(client) = Client::connect().and_then(watched) {
                self.client = Some(client);
                self.watched.clear();
                // Watches fire at once, but missed events do not come again.
                news.look_for_new = true;
                news.look_for_dead = true;
            }
        }
        let Some(client) = &mut self.client else {
            return news;
        };
        let drained = client.drain();
        while let Some(event) = client.queued_event() {
            match event.token.split_once('/') {
                None if event.token == "introduce" => news.look_for_new = true,
                None if event.token == "release" => news.look_for_dead = true,
                Some(("console", domain)) => news.changed.extend(domain.parse::<u16>()),
                Some(("name", domain)) => news.named.extend(domain.parse::<u16>()),
                _ => {}
            }
        }
        self.checked(drained);
        news
    }

    /// The numbers of the domains that are introduced and not watched yet; watches report the
    /// others.
    pub(crate) fn new_domains(&mut self) -> Vec<u16> {
        let names = self.with(|c| c.directory("/local/domain"));
        let mut domains: Vec<u16> = names
            .unwrap_or_default()
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|domain| *domain != 0 && !self.watched.contains(domain))
            .collect();
        domains.retain(|domain| self.with(|c| c.is_introduced(*domain)) == Some(true));
        domains
    }

    /// The place of a domain's console, if it has one that this daemon serves.
    pub(crate) fn place(&mut self, domain: u16) -> Option<Place> {
        let nodes = ["type", "ring-ref", "port"]
            .map(|name| format!("/local/domain/{domain}/console/{name}"));
        let values = self.with(|c| c.try_read_all(nodes.iter().map(String::as_str)))?;
        let [kind, gfn, port] = values.try_into().ok()?;
        let ours = kind.is_none_or(|kind| kind == "xenconsoled");
        ours.then_some(Place {
            gfn: gfn?.parse().ok()?,
            port: port?.parse().ok()?,
        })
    }

    /// The domain's name, or its number.
    pub(crate) fn name(&mut self, domain: u16) -> String {
        let name = self
            .with(|c| c.try_read(&format!("/local/domain/{domain}/name")))
            .flatten();
        name.filter(|n| !n.is_empty())
            .unwrap_or_else(|| domain.to_string())
    }

    /// Watches a domain's console and name. The nodes may come after the domain was introduced.
    pub(crate) fn watch(&mut self, domain: u16) {
        if self.watched.insert(domain) {
            for (path, token) in watches_of(domain) {
                self.with(|c| c.watch(&path, &token));
            }
        }
    }

    pub(crate) fn unwatch(&mut self, domain: u16) {
        if self.watched.remove(&domain) {
            for (path, token) in watches_of(domain) {
                self.with(|c| c.unwatch(&path, &token));
            }
        }
    }

    /// The domains that are watched.
    pub(crate) fn watched(&self) -> Vec<u16> {
        self.watched.iter().copied().collect()
    }

    /// Writes the path of the terminal to the store.
    pub(crate) fn write_tty(&mut self, domain: u16, tty: &str) {
        self.with(|c| c.write(&format!("/local/domain/{domain}/console/tty"), tty));
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Client) -> Result<T, Error>) -> Option<T> {
        let result = work(self.client.as_mut()?);
        self.checked(result)
    }

    /// Drops a connection that is lost.
    fn checked<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Store(error)) => {
                eprintln!("xenconsoled: the store refuses: {error}");
                None
            }
            Err(error) => {
                eprintln!("xenconsoled: {error}; connecting again");
                self.client = None;
                None
            }
        }
    }
}

fn watched(mut client: Client) -> Result<Client, Error> {
    client.watch("@introduceDomain", "introduce")?;
    client.watch("@releaseDomain", "release")?;
    Ok(client)
}

fn watches_of(domain: u16) -> [(String, String); 2] {
    ["console", "name"].map(|node| {
        (
            format!("/local/domain/{domain}/{node}"),
            format!("{node}/{domain}"),
        )
    })
}
