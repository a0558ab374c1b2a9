//! Every request type of the protocol.

use std::collections::BTreeMap;

use guest_pv_abi::DOMID_SELF;

use super::connection::domain_of;
use super::{ConnId, Platform, Server};
use crate::access::{self, Change, Target};
use crate::caller::{Caller, Limits};
use crate::error::StoreError;
use crate::outcome::Done;
use crate::path::Path;
use crate::perms::{DomId, Perm, Perms};
use crate::record::{Record, encode_perms};
use crate::transaction::Transaction;
use crate::view::{NodeView, View};
use crate::watch::{Special, Watch};
use crate::wire::{Header, Kind, PAYLOAD_MAX, strings};

type Result<T> = core::result::Result<T, StoreError>;

const OK: &[u8] = b"OK\0";
/// Bytes that are copied in one step of work, and bytes of names in a list.
pub(super) const COPIED: usize = 64;
const NAME: usize = 16;

/// The step that follows after the reply is queued.
enum After {
    Nothing,
    Publish(Done),
    FirstEvent(Watch),
    Introduced(DomId),
    Released(DomId),
}

impl Server {
    /// Handles one request: its reply and all events that it causes are queued when this returns.
    pub fn receive(
        &mut self,
        id: ConnId,
        header: Header,
        payload: &[u8],
        platform: &mut dyn Platform,
    ) {
        /// Steps of any request: reading it, handling it, and sending its reply.
        const REQUEST: usize = 16;
        self.spend(REQUEST.saturating_add(payload.len() / COPIED));
        let outcome = self.dispatch(id, header, payload, platform);
        let refused = match outcome {
            Err(StoreError::NoSpc) => true,
            Err(StoreError::TooBig) => header.kind == Kind::Watch as u32,
            _ => false,
        };
        self.look_at_limits(id, refused);
        match outcome {
            Ok((kind, answer, after)) if answer.len() <= PAYLOAD_MAX => {
                self.reply(id, header, kind, &answer);
                match after {
                    After::Nothing => {}
                    After::Publish(done) => self.publish(&done),
                    After::FirstEvent(watch) => self.tell(id, watch.path(), &watch.token),
                    After::Introduced(domain) => self.tell_special(Special::Introduce, domain),
                    After::Released(domain) => self.forget_domain(domain, platform),
                }
            }
            Ok(_) => self.refuse(id, header, StoreError::TooBig),
            Err(error) => self.refuse(id, header, error),
        }
    }

    fn refuse(&mut self, id: ConnId, header: Header, error: StoreError) {
        let name = format!("{error}\0");
        self.reply(id, header, Kind::Error, name.as_bytes());
    }

    fn dispatch(
        &mut self,
        id: ConnId,
        header: Header,
        payload: &[u8],
        platform: &mut dyn Platform,
    ) -> Result<(Kind, Vec<u8>, After)> {
        let kind = Kind::from_number(header.kind).ok_or(StoreError::NoSys)?;
        let who = self.connections.get(&id).ok_or(StoreError::Inval)?.caller;
        if needs_privilege(kind) && !who.is_privileged() {
            return Err(StoreError::Acces);
        }
        let done = |after| Ok((OK.to_vec(), after));
        let tx = header.tx_id;
        let (answer, after) = match kind {
            Kind::Read => self.read(id, tx, payload, |node| node.value.to_vec()),
            Kind::GetPerms => self.read(id, tx, payload, |node| node.perms.encode()),
            Kind::Directory => self.directory(id, tx, payload),
            Kind::DirectoryPart => self.directory_part(id, tx, payload),
            Kind::Write => {
                let (path, value) = split(payload)?;
                let path = Path::resolve(path, who.domain)?;
                self.change(id, tx, &Change::Write(path, value.into()))
            }
            Kind::Mkdir => self.change(id, tx, &Change::Mkdir(one_path(payload, who)?)),
            Kind::Rm => self.change(id, tx, &Change::Remove(one_path(payload, who)?)),
            Kind::SetPerms => self.set_perms(id, tx, payload),
            Kind::Watch => self.watch(id, payload),
            Kind::Unwatch => self.unwatch(id, payload),
            Kind::ResetWatches => self.reset(id),
            Kind::TransactionStart => self.start(id, tx),
            Kind::TransactionEnd => self.end(id, tx, payload),
            Kind::Introduce => self.introduce(payload, platform).and_then(done_introduced),
            Kind::Release => {
                let domain = one_domain(payload)?;
                // No request may end dom0's own connection.
                if domain == 0 {
                    return Err(StoreError::Inval);
                }
                done(After::Released(self.introduced(domain)?))
            }
            Kind::IsDomainIntroduced => {
                let domain = one_domain(payload)?;
                let known = domain == DOMID_SELF || self.introduced(domain).is_ok();
                Ok((
                    if known {
                        b"T\0".to_vec()
                    } else {
                        b"F\0".to_vec()
                    },
                    After::Nothing,
                ))
            }
            Kind::GetDomainPath => {
                let home = Path::home(one_domain(payload)?);
                Ok((format!("{home}\0").into_bytes(), After::Nothing))
            }
            Kind::Resume => self
                .resume(one_domain(payload)?)
                .and_then(|()| done(After::Nothing)),
            Kind::SetTarget => self.set_target(payload).and_then(|()| done(After::Nothing)),
            Kind::Control => self
                .control(payload, platform)
                .map(|text| (format!("{text}\0").into_bytes(), After::Nothing)),
            Kind::WatchEvent | Kind::Error => Err(StoreError::NoSys),
        }?;
        Ok((kind, answer, after))
    }

    /// The node that a request names, with the list of its children if `list`.
    fn look(&mut self, id: ConnId, tx: u32, path: &Path, list: bool) -> Result<NodeView<'_>> {
        self.spend(path.steps().count());
        let held = if tx == 0 { 0 } else { self.held(id) };
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        let who = connection.caller;
        let nearest = if tx == 0 {
            View::of_store(&self.tree).nearest(path)
        } else {
            let quota = &self.quota;
            let transaction = transaction(&mut connection.transactions, tx)?;
            transaction.check(&self.tree, path, 0, who, &Limits { quota, held })?;
            transaction.nearest(&self.tree, path, list)
        };
        access::read(&nearest, path, who)
    }

    fn read(
        &mut self,
        id: ConnId,
        tx: u32,
        payload: &[u8],
        what: impl Fn(NodeView<'_>) -> Vec<u8>,
    ) -> Result<(Vec<u8>, After)> {
        let path = one_path(payload, self.caller(id)?)?;
        let node = self.look(id, tx, &path, false)?;
        Ok((what(node), After::Nothing))
    }

    fn directory(&mut self, id: ConnId, tx: u32, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let path = one_path(payload, self.caller(id)?)?;
        let list = names(self.look(id, tx, &path, true)?);
        self.spend(list.len() / NAME);
        Ok((list, After::Nothing))
    }

    fn directory_part(&mut self, id: ConnId, tx: u32, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let [path, offset] = exactly(payload)?;
        let path = Path::resolve(path, self.caller(id)?.domain)?;
        let offset: usize = decimal(offset)?;
        let node = self.look(id, tx, &path, true)?;
        let list = names(node);
        let mut answer = format!("{}\0", node.list_stamp()).into_bytes();
        let rest = list.get(offset..).unwrap_or(&[]);
        // Only whole names are sent, with room for the empty name that ends the list.
        let room = PAYLOAD_MAX.saturating_sub(answer.len()).saturating_sub(1);
        let fits = rest.len().min(room);
        let part = if fits == rest.len() {
            rest
        } else {
            upto_last_nul(&rest[..fits])
        };
        answer.extend_from_slice(part);
        if part.len() == rest.len() {
            answer.push(0);
        }
        self.spend(list.len() / NAME);
        Ok((answer, After::Nothing))
    }

    fn change(&mut self, id: ConnId, tx: u32, change: &Change) -> Result<(Vec<u8>, After)> {
        self.spend(change.path().steps().count());
        let held = self.held(id);
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        let who = connection.caller;
        let limits = Limits {
            quota: &self.quota,
            held,
        };
        if tx == 0 {
            let done = access::apply(Target::Store(&mut self.tree), change, who, &limits)?;
            return Ok((OK.to_vec(), After::Publish(done)));
        }
        let transaction = transaction(&mut connection.transactions, tx)?;
        let len = change.value_len();
        transaction.check(&self.tree, change.path(), len, who, &limits)?;
        let target = Target::Transaction(&self.tree, transaction);
        let done = access::apply(target, change, who, &limits)?;
        self.spend(done.nodes);
        Ok((OK.to_vec(), After::Nothing))
    }

    fn caller(&self, id: ConnId) -> Result<Caller> {
        let connection = self.connections.get(&id);
        connection.map(|c| c.caller).ok_or(StoreError::Inval)
    }

    fn set_perms(&mut self, id: ConnId, tx: u32, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let who = self.connections.get(&id).ok_or(StoreError::Inval)?.caller;
        let words = strings(payload)?;
        let (path, list) = words.split_first().ok_or(StoreError::Inval)?;
        let perm = |text: &&[u8]| {
            core::str::from_utf8(text)
                .map_err(|_| StoreError::Inval)?
                .parse::<Perm>()
        };
        let list: Result<Vec<Perm>> = list.iter().map(perm).collect();
        let perms = Perms::from_list(&list?)?;
        if path.starts_with(b"@") {
            return self.set_special_perms(path, perms, who);
        }
        let path = Path::resolve(path, who.domain)?;
        self.change(id, tx, &Change::SetPerms(path, perms))
    }

    fn set_special_perms(
        &mut self,
        name: &[u8],
        perms: Perms,
        who: Caller,
    ) -> Result<(Vec<u8>, After)> {
        if !who.is_privileged() {
            return Err(StoreError::Acces);
        }
        let event = Special::from_name(name).ok_or(StoreError::Inval)?;
        self.records.push(Record::SpecialPerms {
            name: event.name().to_owned(),
            perms: encode_perms(&perms),
        });
        for slot in self.special.iter_mut().filter(|(e, _)| *e == event) {
            slot.1 = perms.clone();
        }
        Ok((OK.to_vec(), After::Nothing))
    }

    fn watch(&mut self, id: ConnId, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let held = self.held(id);
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        let words = strings(payload)?;
        let (path, token, depth) = match words[..] {
            [path, token] | [path, token, b""] => (path, token, None),
            [path, token, depth] => (path, token, Some(decimal(depth)?)),
            _ => return Err(StoreError::Inval),
        };
        let who = connection.caller;
        let watch = Watch::parse(path, token, depth, who.domain)?;
        if connection.watches.iter().any(|other| other.is_like(&watch)) {
            return Err(StoreError::Exist);
        }
        if !who.is_privileged() {
            // One more than the limit, as in Xen.
            if connection.watches.len() > self.quota.watches as usize {
                return Err(StoreError::TooBig);
            }
            let owned = self.tree.usage(who.domain).bytes;
            let memory = owned.saturating_add(held).saturating_add(watch.bytes());
            if memory > self.quota.memory as usize {
                return Err(StoreError::NoSpc);
            }
        }
        self.listeners.add(&watch, id);
        connection.add_watch(watch.clone());
        if let Some(domain) = domain_of(id) {
            self.records.push(Record::Watch {
                domain,
                path: path.to_vec(),
                token: token.to_vec(),
                depth,
            });
        }
        Ok((OK.to_vec(), After::FirstEvent(watch)))
    }

    fn unwatch(&mut self, id: ConnId, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        let words = strings(payload)?;
        let ([path, token] | [path, token, _]) = words[..] else {
            return Err(StoreError::Inval);
        };
        let like = Watch::parse(path, token, None, connection.caller.domain)?;
        let watch = connection.remove_watch(&like).ok_or(StoreError::NoEnt)?;
        self.listeners.remove(&watch, id);
        if let Some(domain) = domain_of(id) {
            self.records.push(Record::Unwatch {
                domain,
                path: path.to_vec(),
                token: token.to_vec(),
            });
        }
        Ok((OK.to_vec(), After::Nothing))
    }

    fn reset(&mut self, id: ConnId) -> Result<(Vec<u8>, After)> {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        self.listeners.remove_all(&connection.watches, id);
        connection.reset();
        self.records
            .extend(domain_of(id).map(|domain| Record::Reset { domain }));
        Ok((OK.to_vec(), After::Nothing))
    }

    fn start(&mut self, id: ConnId, tx: u32) -> Result<(Vec<u8>, After)> {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        if tx != 0 {
            return Err(StoreError::Busy);
        }
        let open = connection.transactions.len();
        // One more than the limit, as in Xen.
        if !connection.caller.is_privileged() && open > self.quota.transactions as usize {
            return Err(StoreError::NoSpc);
        }
        // dom0 is not limited, but a number must be free.
        let mut number = connection.next_transaction;
        while number == 0 || connection.transactions.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        connection.next_transaction = number.wrapping_add(1);
        connection
            .transactions
            .insert(number, Transaction::default());
        self.records
            .extend(domain_of(id).map(|domain| Record::TransactionStart { domain, id: number }));
        Ok((format!("{number}\0").into_bytes(), After::Nothing))
    }

    fn end(&mut self, id: ConnId, tx: u32, payload: &[u8]) -> Result<(Vec<u8>, After)> {
        let connection = self.connections.get_mut(&id).ok_or(StoreError::Inval)?;
        let commit = match strings(payload)?[..] {
            [b"T"] => true,
            [b"F"] => false,
            _ => return Err(StoreError::Inval),
        };
        let transaction = connection
            .transactions
            .remove(&tx)
            .ok_or(StoreError::NoEnt)?;
        let who = connection.caller;
        self.records
            .extend(domain_of(id).map(|domain| Record::TransactionEnd { domain, id: tx }));
        self.spend(transaction.count());
        let mut done = Done::default();
        if commit {
            let (quota, held) = (&self.quota, self.held(id));
            done = transaction.commit(&mut self.tree, who, &Limits { quota, held })?;
        }
        Ok((OK.to_vec(), After::Publish(done)))
    }
}

fn transaction(open: &mut BTreeMap<u32, Transaction>, id: u32) -> Result<&mut Transaction> {
    open.get_mut(&id).ok_or(StoreError::NoEnt)
}

/// Whether only the toolset in dom0 may make requests of this kind.
const fn needs_privilege(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Introduce | Kind::Release | Kind::Resume | Kind::SetTarget | Kind::Control
    )
}

fn done_introduced(new: Option<DomId>) -> Result<(Vec<u8>, After)> {
    Ok((OK.to_vec(), new.map_or(After::Nothing, After::Introduced)))
}

/// Exactly `N` strings.
pub(super) fn exactly<const N: usize>(payload: &[u8]) -> Result<[&[u8]; N]> {
    strings(payload)?.try_into().map_err(|_| StoreError::Inval)
}

fn one_path(payload: &[u8], who: Caller) -> Result<Path> {
    let [path] = exactly(payload)?;
    Path::resolve(path, who.domain)
}

fn one_domain(payload: &[u8]) -> Result<DomId> {
    let [domain] = exactly(payload)?;
    decimal(domain)
}

/// A decimal number in its range, without a sign.
pub(super) fn decimal<T: core::str::FromStr>(text: &[u8]) -> Result<T> {
    let text = core::str::from_utf8(text).map_err(|_| StoreError::Inval)?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(StoreError::Inval);
    }
    text.parse().map_err(|_| StoreError::Inval)
}

/// A string, and whatever follows it.
fn split(payload: &[u8]) -> Result<(&[u8], &[u8])> {
    let nul = payload
        .iter()
        .position(|b| *b == 0)
        .ok_or(StoreError::Inval)?;
    let (head, tail) = payload.split_at(nul);
    Ok((head, &tail[1..]))
}

fn names(node: NodeView<'_>) -> Vec<u8> {
    let names = node.names().into_iter();
    names.flat_map(|name| name.bytes().chain([0])).collect()
}

fn upto_last_nul(bytes: &[u8]) -> &[u8] {
    bytes
        .iter()
        .rposition(|b| *b == 0)
        .map_or(&[], |at| &bytes[..=at])
}
