//! The rules of the store in their simplest words, to compare it with.

use std::collections::BTreeMap;

use xenstored::error::StoreError;
use xenstored::wire::Kind;

pub type Answer = Result<Vec<u8>, StoreError>;

/// A request about nodes.
#[derive(Debug, Clone)]
pub enum Op {
    Read(String),
    Write(String, u8),
    Mkdir(String),
    Rm(String),
    List(String),
    GetPerms(String),
    SetPerms(String, Vec<(char, u16)>),
}

impl Op {
    /// As it travels.
    pub fn request(&self) -> (Kind, Vec<u8>) {
        let (kind, payload) = match self {
            Self::Read(path) => (Kind::Read, format!("{path}\0")),
            Self::Write(path, value) => (Kind::Write, format!("{path}\0{value}")),
            Self::Mkdir(path) => (Kind::Mkdir, format!("{path}\0")),
            Self::Rm(path) => (Kind::Rm, format!("{path}\0")),
            Self::List(path) => (Kind::Directory, format!("{path}\0")),
            Self::GetPerms(path) => (Kind::GetPerms, format!("{path}\0")),
            Self::SetPerms(path, perms) => {
                let perms: String = perms.iter().map(|(c, d)| format!("{c}{d}\0")).collect();
                (Kind::SetPerms, format!("{path}\0{perms}"))
            }
        };
        (kind, payload.into_bytes())
    }
}

/// The model: all nodes by their paths, and the rules in their simplest words.
#[derive(Clone)]
pub struct Model(pub BTreeMap<String, (String, Vec<(char, u16)>)>);

impl Model {
    pub fn new(guests: &[u16]) -> Self {
        let mut model = Self(BTreeMap::from([(
            "/".to_owned(),
            (String::new(), vec![('n', 0)]),
        )]));
        for path in ["/local/domain", "/tool/xenstored", "/vm", "/libxl"] {
            model.make(path, 0);
        }
        for guest in guests {
            let home = format!("/local/domain/{guest}");
            model.make(&home, 0);
            model.0.get_mut(&home).unwrap().1 = vec![('n', *guest)];
        }
        model
    }

    fn parent(path: &str) -> String {
        match path.rsplit_once('/').unwrap().0 {
            "" => "/".to_owned(),
            parent => parent.to_owned(),
        }
    }

    fn nearest(&self, path: &str) -> String {
        let mut path = path.to_owned();
        while !self.0.contains_key(&path) {
            path = Self::parent(&path);
        }
        path
    }

    fn allows(&self, path: &str, who: u16, right: char) -> bool {
        let perms = &self.0[path].1;
        if who == 0 || perms[0].1 == who {
            return true;
        }
        let entry = perms[1..]
            .iter()
            .find(|(_, d)| *d == who)
            .unwrap_or(&perms[0])
            .0;
        right != 'o' && (entry == 'b' || entry == right)
    }

    fn check(&self, path: &str, who: u16, right: char) -> Result<(), StoreError> {
        match (
            self.0.contains_key(path),
            self.allows(&self.nearest(path), who, right),
        ) {
            (true, true) => Ok(()),
            (false, true) => Err(StoreError::NoEnt),
            (_, false) => Err(StoreError::Acces),
        }
    }

    pub fn make(&mut self, path: &str, who: u16) {
        if !self.0.contains_key(path) {
            self.make(&Self::parent(path), who);
            let mut perms = self.0[&Self::parent(path)].1.clone();
            if who != 0 {
                perms[0].1 = who;
            }
            self.0.insert(path.to_owned(), (String::new(), perms));
        }
    }

    fn children(&self, path: &str) -> Vec<String> {
        self.0
            .keys()
            .filter(|p| *p != "/" && Self::parent(p) == path)
            .cloned()
            .collect()
    }

    pub fn run(&mut self, op: &Op, who: u16) -> Answer {
        let ok = Ok(b"OK\0".to_vec());
        match op {
            Op::Read(path) => self
                .check(path, who, 'r')
                .map(|()| self.0[path].0.clone().into_bytes()),
            Op::List(path) => self.check(path, who, 'r').map(|()| {
                self.children(path)
                    .iter()
                    .flat_map(|p| format!("{}\0", p.rsplit_once('/').unwrap().1).into_bytes())
                    .collect()
            }),
            Op::GetPerms(path) => self.check(path, who, 'r').map(|()| {
                self.0[path]
                    .1
                    .iter()
                    .flat_map(|(c, d)| format!("{c}{d}\0").into_bytes())
                    .collect()
            }),
            Op::Write(path, value) => match self.check(path, who, 'w') {
                Ok(()) | Err(StoreError::NoEnt) => {
                    self.make(path, who);
                    self.0.get_mut(path).unwrap().0 = value.to_string();
                    ok
                }
                Err(error) => Err(error),
            },
            Op::Mkdir(path) => match self.check(path, who, 'w') {
                Ok(()) | Err(StoreError::NoEnt) => {
                    self.make(path, who);
                    ok
                }
                Err(error) => Err(error),
            },
            Op::Rm(path) => match self.check(path, who, 'w') {
                Ok(()) => {
                    self.0
                        .retain(|p, _| p != path && !p.starts_with(&format!("{path}/")));
                    ok
                }
                Err(StoreError::NoEnt) if self.0.contains_key(&Self::parent(path)) => ok,
                Err(error) => Err(error),
            },
            Op::SetPerms(path, perms) => {
                self.check(path, who, 'o')?;
                if who != 0 && perms[0].1 != self.0[path].1[0].1 {
                    return Err(StoreError::Perm);
                }
                self.0.get_mut(path).unwrap().1 = perms.clone();
                ok
            }
        }
    }

    /// A domain is no more: what it owned goes, and what others allowed it.
    #[allow(dead_code, reason = "not every test does this")]
    pub fn forget(&mut self, domain: u16) {
        let about: Vec<String> = self
            .0
            .iter()
            .filter(|(_, (_, perms))| perms.iter().any(|(_, d)| *d == domain))
            .map(|(path, _)| path.clone())
            .collect();
        for path in about {
            let Some((_, perms)) = self.0.get_mut(&path) else {
                continue;
            };
            if perms[0].1 == domain {
                self.0
                    .retain(|p, _| *p != path && !p.starts_with(&format!("{path}/")));
            } else {
                perms.retain(|(_, d)| *d != domain);
            }
        }
    }

    /// All nodes as text, in order.
    #[allow(dead_code, reason = "not every test does this")]
    pub fn content(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (path, (value, perms)) in &self.0 {
            let perms: Vec<String> = perms.iter().map(|(c, d)| format!("{c}{d}")).collect();
            all.push(format!("{path} {value} {}", perms.join(",")));
        }
        all
    }
}
