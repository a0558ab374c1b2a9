//! Waiting for domains to end: the store tells (`@releaseDomain`), and in case it is being restarted
//! just then, we look by ourselves now and then.

use core::time::Duration;
use xenstored::client::Client;

const LOOK_EVERY: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_millis(500);

/// Calls `look` whenever a domain may have ended. Does not return.
pub fn watch(mut look: impl FnMut()) -> ! {
    let mut client: Option<Client> = None;
    loop {
        look();
        if client.is_none() {
            client = connect();
        }
        let told = match client.as_mut() {
            Some(open) => open.next_event(Some(LOOK_EVERY)),
            None => {
                std::thread::sleep(RECONNECT);
                continue;
            }
        };
        if told.is_err() {
            client = None;
        }
    }
}

fn connect() -> Option<Client> {
    let mut client = Client::connect_within(RECONNECT).ok()?;
    client.watch("@releaseDomain", "xmd").ok()?;
    Some(client)
}
