//! The store against a simple model of it, and its transactions against doing them one after
//! another.

use std::collections::BTreeMap;

mod common;

use common::{Answer, Model, Op};
use proptest::prelude::*;
use xenstored::error::StoreError;
use xenstored::record::Record;
use xenstored::server::{ConnId, Indices, Platform, Restored, Server};
use xenstored::wire::{HEADER, Header, Kind, message};

struct NoRings;

impl Platform for NoRings {
    fn connect(&mut self, _: u16, _: u64, _: u32, _: bool) -> Result<Indices, StoreError> {
        Ok(Indices::default())
    }

    fn disconnect(&mut self, _: u16) {}
}

/// A server with dom0 on a socket, and two guests that own their homes; and what a daemon has
/// written down.
struct Store {
    server: Server,
    who: [ConnId; 3],
    written: Vec<Record>,
}

impl Store {
    fn new() -> Self {
        let mut server = Server::new();
        let dom0 = server.open_socket();
        let mut store = Self {
            server,
            who: [dom0, ConnId::Domain(1), ConnId::Domain(2)],
            written: Vec::new(),
        };
        for guest in [1, 2] {
            for (kind, payload) in [
                (Kind::Introduce, format!("{guest}\x001\x001\0")),
                (Kind::Mkdir, format!("/local/domain/{guest}\0")),
                (Kind::SetPerms, format!("/local/domain/{guest}\0n{guest}\0")),
            ] {
                store.ask(0, kind, 0, payload.as_bytes()).unwrap();
            }
        }
        store
    }

    fn ask(&mut self, who: usize, kind: Kind, tx: u32, payload: &[u8]) -> Answer {
        let request = message(kind, 1, tx, payload);
        let header = Header::decode(request.first_chunk().unwrap());
        self.server
            .receive(self.who[who], header, payload, &mut NoRings);
        let outbox = self.server.outbox(self.who[who]).unwrap();
        let answer = outbox.rest();
        outbox.clear();
        let (header, payload) = answer.split_at(HEADER);
        match Kind::from_number(Header::decode(header.try_into().unwrap()).kind).unwrap() {
            Kind::Error => {
                let name = std::str::from_utf8(&payload[..payload.len() - 1]).unwrap();
                Err(StoreError::from_name(name))
            }
            _ => Ok(payload.to_vec()),
        }
    }

    /// The daemon dies and is started again, once from what it wrote at each change, once from a
    /// whole.
    fn restart(&mut self, compact: bool) {
        self.written.extend(self.server.take_records());
        let whole = restored(self.server.snapshot());
        let piecewise = restored(self.written.iter().cloned());
        let before = self.content();
        assert_eq!(content(&whole), before);
        assert_eq!(content(&piecewise), before);
        if compact {
            self.server = whole;
            self.written = self.server.snapshot();
        } else {
            self.server = piecewise;
        }
        self.server.take_records();
        self.server.reconnect(&mut NoRings);
        self.who[0] = self.server.open_socket();
        // There are no rings that say what had gone out.
        for guest in &self.who[1..] {
            self.server.outbox(*guest).unwrap().clear();
        }
    }

    fn start(&mut self, who: usize) -> u32 {
        let answer = self.ask(who, Kind::TransactionStart, 0, b"\0").unwrap();
        std::str::from_utf8(&answer[..answer.len() - 1])
            .unwrap()
            .parse()
            .unwrap()
    }

    fn content(&self) -> Vec<String> {
        content(&self.server)
    }
}

/// All nodes as text, in order.
fn content(server: &Server) -> Vec<String> {
    assert!(server.tree().is_consistent());
    let root = xenstored::path::Path::root();
    let all = server.tree().root().walk(&root);
    let mut all: Vec<String> = all
        .iter()
        .map(|(path, node)| format!("{path} {:?} {:?}", node.value, node.perms))
        .collect();
    all.sort();
    all
}

/// The server of these records, none of which may be left over.
fn restored(records: impl IntoIterator<Item = Record>) -> Server {
    let Restored { server, aside } = Server::restore(records);
    assert!(aside.is_empty(), "{aside:?}");
    server
}

/// Sends a request from a client, and returns the reply.
fn run(op: &Op, store: &mut Store, who: usize, tx: u32) -> Answer {
    let (kind, payload) = op.request();
    store.ask(who, kind, tx, &payload)
}

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b"]);
    let base = prop::sample::select(vec!["/local/domain/1", "/local/domain/2", "/t"]);
    (base, prop::collection::vec(name, 0..3)).prop_map(|(base, names)| {
        names
            .iter()
            .fold(base.to_owned(), |path, name| format!("{path}/{name}"))
    })
}

fn op() -> impl Strategy<Value = Op> {
    let perms = prop::collection::vec(
        (prop::sample::select(vec!['n', 'r', 'w', 'b']), 0u16..3),
        1..4,
    );
    prop_oneof![
        3 => path().prop_map(Op::Read),
        4 => (path(), any::<u8>()).prop_map(|(p, v)| Op::Write(p, v)),
        2 => path().prop_map(Op::Mkdir),
        2 => path().prop_map(Op::Rm),
        2 => path().prop_map(Op::List),
        1 => path().prop_map(Op::GetPerms),
        2 => (path(), perms).prop_map(|(p, v)| Op::SetPerms(p, v)),
    ]
}

/// One step of three clients that work at the same time, each with at most one transaction.
#[derive(Debug, Clone)]
enum Step {
    Start,
    Do(Op),
    Alone(Op),
    End(bool),
    /// Of the daemon.
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Start),
        32 => op().prop_map(Step::Do),
        6 => op().prop_map(Step::Alone),
        8 => prop::bool::weighted(0.9).prop_map(Step::End),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_the_model_does(ops in prop::collection::vec((0usize..3, op()), 1..60)) {
        let mut store = Store::new();
        let mut model = Model::new(&[1, 2]);
        for (who, op) in ops {
            let answer = run(&op, &mut store, who, 0);
            prop_assert_eq!(answer, model.run(&op, who as u16), "{} {:?}", who, op);
        }
        prop_assert!(store.server.tree().is_consistent());
        let all = store.server.tree().root().walk(&xenstored::path::Path::root());
        prop_assert_eq!(all.len(), model.0.len());
        for (path, node) in all {
            prop_assert_eq!(&*node.value, model.0[path.as_str()].0.as_bytes());
        }
        store.restart(false);
    }

    /// Committed transactions have seen and done the same as if each had run at the instant of its
    /// commit; and at any moment the records describe the whole store.
    #[test]
    fn transactions_are_serializable(steps in prop::collection::vec((0usize..3, step()), 1..120)) {
        let mut store = Store::new();
        let mut open: BTreeMap<usize, (u32, Vec<(Op, Answer)>)> = BTreeMap::new();
        let mut history: Vec<(usize, Vec<(Op, Answer)>)> = Vec::new();
        for (who, step) in steps {
            match step {
                Step::Start => {
                    open.entry(who).or_insert_with(|| (store.start(who), Vec::new()));
                }
                Step::Do(op) => if let Some((tx, log)) = open.get_mut(&who) {
                    let answer = run(&op, &mut store, who, *tx);
                    log.push((op, answer));
                },
                Step::Alone(op) => {
                    let answer = run(&op, &mut store, who, 0);
                    history.push((who, vec![(op, answer)]));
                }
                Step::End(commit) => if let Some((tx, log)) = open.remove(&who) {
                    let before = store.content();
                    let end: &[u8] = if commit { b"T\0" } else { b"F\0" };
                    match store.ask(who, Kind::TransactionEnd, tx, end) {
                        Ok(_) if commit => history.push((who, log)),
                        Ok(_) => prop_assert_eq!(store.content(), before),
                        Err(error) => {
                            prop_assert_eq!(error, StoreError::Again);
                            prop_assert_eq!(store.content(), before);
                        }
                    }
                },
                Step::Restart(compact) => {
                    store.restart(compact);
                    // dom0's connection is another one now. The guests' transactions are open, and
                    // lost.
                    open.remove(&0);
                }
            }
        }
        store.restart(false);
        let mut serial = Store::new();
        for (who, log) in history {
            for (op, answer) in log {
                prop_assert_eq!(run(&op, &mut serial, who, 0), answer, "{} {:?}", who, op);
            }
        }
        prop_assert_eq!(serial.content(), store.content());
        prop_assert!(store.server.tree().is_consistent());
    }
}

/// A transaction that nobody disturbs always commits.
#[test]
fn undisturbed_transactions_commit() {
    let mut store = Store::new();
    for n in 0..20 {
        let tx = store.start(1);
        let write = Op::Write("/local/domain/1/a/b".to_owned(), n);
        run(&write, &mut store, 1, tx).unwrap();
        let list = Op::List("/local/domain/1".to_owned());
        run(&list, &mut store, 1, tx).unwrap();
        assert!(store.ask(1, Kind::TransactionEnd, tx, b"T\0").is_ok());
    }
}
