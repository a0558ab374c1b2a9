//! The places of clients. When all are taken, the client that has been idle longest is disconnected
//! for a new one.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The most clients at once; further ones are refused.
const MAX_CLIENTS: usize = 64;
/// The idle time after which a client may be disconnected for a new one.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Places(Mutex<All>);

#[derive(Default)]
struct All {
    next: u64,
    taken: BTreeMap<u64, Place>,
}

struct Place {
    stream: UnixStream,
    /// The time since which the client is idle; `None` while a request is being served.
    idle_since: Option<Instant>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a client. `None` if busy clients have all of them.
    pub fn enter(&self, stream: &UnixStream) -> Option<u64> {
        self.enter_at(stream, Instant::now())
    }

    fn enter_at(&self, stream: &UnixStream, now: Instant) -> Option<u64> {
        let stream = stream.try_clone().ok()?;
        let mut all = self.lock();
        if all.taken.len() >= MAX_CLIENTS {
            let idle = all.taken.iter().filter_map(|(number, place)| {
                let since = place.idle_since?;
                (now.saturating_duration_since(since) >= IDLE).then_some((since, *number))
            });
            let (_, number) = idle.min()?;
            if let Some(place) = all.taken.remove(&number) {
                // The client's thread sees the end of the connection.
                let _ = place.stream.shutdown(Shutdown::Both);
            }
        }
        let number = all.next;
        all.next += 1;
        let idle_since = Some(now);
        all.taken.insert(number, Place { stream, idle_since });
        Some(number)
    }

    /// Notes that a request of the client has arrived, or that its reply was sent.
    pub fn set_busy(&self, number: u64, busy: bool) {
        if let Some(place) = self.lock().taken.get_mut(&number) {
            place.idle_since = (!busy).then(Instant::now);
        }
    }

    pub fn leave(&self, number: u64) {
        self.lock().taken.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_client_that_has_been_idle_for_longest_gives_way() {
        let places = Places::default();
        let (client, mut other) = UnixStream::pair().expect("a pair");
        let (first, _first) = UnixStream::pair().expect("a pair");
        let start = Instant::now();
        let busy = places.enter_at(&first, start).expect("a place");
        places.set_busy(busy, true);
        let idle = places.enter_at(&client, start).expect("a place");
        drop(client);
        for n in 2..MAX_CLIENTS as u64 {
            let later = start + Duration::from_millis(n);
            places.enter_at(&first, later).expect("a place");
        }
        assert_eq!(
            places.enter_at(&first, start + IDLE - Duration::from_millis(1)),
            None
        );
        places.enter_at(&first, start + IDLE).expect("its place");
        assert_eq!(other.read(&mut [0; 1]).expect("the end"), 0);
        let all = places.lock();
        assert!(all.taken.contains_key(&busy) && !all.taken.contains_key(&idle));
        assert_eq!(all.taken.len(), MAX_CLIENTS);
    }
}
