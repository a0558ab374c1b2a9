//! Requests from rings.

use xenstored::perms::DomId;
use xenstored::ring::{self, Fault};
use xenstored::server::{ConnId, Server};

use super::xen::Xen;
use super::{TURN, log_request};

/// Handles a turn of a domain's requests. True if some are left.
pub(crate) fn serve(xen: &mut Xen, server: &mut Server, domain: DomId, verbose: bool) -> bool {
    let served = serve_turn(xen, server, domain, verbose);
    match (served, xen.ring(domain)) {
        (Ok(more), _) => more,
        (Err(fault), Some(open)) => {
            open.fail(domain, fault);
            false
        }
        (Err(_), None) => false,
    }
}

fn serve_turn(
    xen: &mut Xen,
    server: &mut Server,
    domain: DomId,
    verbose: bool,
) -> Result<bool, Fault> {
    let id = ConnId::Domain(domain);
    let Some(state) = server.ring(domain) else {
        return Ok(false);
    };
    let (consumed, mut bytes) = (state.indices.consumed, state.partial.clone());
    let Some(open) = xen.ring(domain).filter(|r| !r.broken) else {
        return Ok(false);
    };
    let known = bytes.len();
    bytes.extend(ring::peek(open.page()?, consumed)?);
    if bytes.len() == known {
        return Ok(false);
    }
    let mut at = 0;
    let mut whole = true;
    let mut turns = 0;
    while turns < TURN && !server.is_backed_up(id) {
        let Some(ring::Message {
            header,
            payload,
            len,
        }) = ring::first_message(&bytes[at..])?
        else {
            whole = false;
            break;
        };
        if verbose {
            log_request(&format!("domain {domain}"), header, payload);
        }
        server.receive(id, header, payload, xen);
        at += len;
        turns += 1;
        // The request may have closed or opened anew the ring it came by.
        if server
            .ring(domain)
            .is_none_or(|r| r.indices.consumed != consumed)
        {
            return Ok(true);
        }
    }
    // Whole requests that must wait stay in the ring; the start of one is kept here, since all of
    // it may not fit in.
    let (taken, partial) = if whole {
        (at, Vec::new())
    } else {
        (bytes.len(), bytes.split_off(at))
    };
    let Some(new) = taken.checked_sub(known) else {
        return Ok(false);
    };
    if new > 0 {
        // A ring holds no more than fits in u32.
        let consumed = consumed.wrapping_add(new as u32);
        server.took(domain, consumed, partial);
        if let Some(open) = xen.ring(domain) {
            open.take = Some(consumed);
        }
    }
    Ok(turns == TURN)
}
