//! Clients that listen for events.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xmd_api::Event;

/// The most events that wait for one client. A client that does not read them is cut off.
const MAX_WAITING: usize = 1024;

#[derive(Default)]
pub struct Listeners(Mutex<All>);

#[derive(Default)]
struct All {
    next: u64,
    senders: BTreeMap<u64, SyncSender<Event>>,
}

/// A client's registration, which ends when this is dropped.
pub struct Listening<'a> {
    listeners: &'a Listeners,
    number: u64,
    pub events: Receiver<Event>,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub fn listen(&self) -> Listening<'_> {
        let (sender, events) = sync_channel(MAX_WAITING);
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.senders.insert(number, sender);
        Listening {
            listeners: self,
            number,
            events,
        }
    }

    /// Sends an event to all listeners.
    pub fn announce(&self, event: &Event) {
        let mut all = self.lock();
        all.senders
            .retain(|_, sender| sender.try_send(event.clone()).is_ok());
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.listeners.lock().senders.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(domain: u16) -> Event {
        let name = "demo".to_owned();
        Event::Gone { domain, name }
    }

    #[test]
    fn one_that_left_is_forgotten_at_once_and_one_that_does_not_read_is_cut_off() {
        let listeners = Listeners::default();
        let (stays, leaves, sleeps) = (listeners.listen(), listeners.listen(), listeners.listen());
        drop(leaves);
        assert_eq!(listeners.lock().senders.len(), 2);
        for n in 0..=MAX_WAITING {
            listeners.announce(&event(n as u16));
            assert_eq!(stays.events.try_recv(), Ok(event(n as u16)));
        }
        assert_eq!(listeners.lock().senders.len(), 1);
        assert_eq!(sleeps.events.iter().count(), MAX_WAITING);
    }
}
