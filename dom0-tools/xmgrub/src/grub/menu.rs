//! The menu, and how an entry of it is named: by its place, title or id, with `>` between levels
//! (GRUB manual, 16.1.4 default).

use super::parser::Block;

/// An entry or a submenu.
#[derive(Debug, Clone)]
pub struct Item {
    pub title: String,
    pub id: Option<String>,
    pub kind: Kind,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Entry(Body),
    Submenu(Vec<Item>),
}

/// The commands of an entry.
#[derive(Debug, Clone)]
pub struct Body(pub(super) Block);

impl Item {
    fn is_called(&self, name: &str) -> bool {
        self.title == name || self.id.as_deref() == Some(name)
    }

    /// The entry that this item stands for; for a submenu its first.
    fn entry(&self) -> Option<(&Item, &Body)> {
        match &self.kind {
            Kind::Entry(body) => Some((self, body)),
            Kind::Submenu(items) => items.iter().find_map(Item::entry),
        }
    }
}

/// The entry that is named, if there is one.
pub(super) fn find<'a>(items: &'a [Item], name: &str) -> Option<(&'a Item, &'a Body)> {
    // A title may hold the separator.
    if let Some(item) = items.iter().find(|item| item.is_called(name)) {
        return item.entry();
    }
    let (first, rest) = match name.split_once('>') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let by_place = || {
        first
            .trim()
            .parse()
            .ok()
            .and_then(|at: usize| items.get(at))
    };
    let item = items
        .iter()
        .find(|item| item.is_called(first))
        .or_else(by_place)?;
    match (&item.kind, rest) {
        (_, None) => item.entry(),
        (Kind::Submenu(inside), Some(rest)) => find(inside, rest),
        (Kind::Entry(_), Some(_)) => None,
    }
}

/// The first entry of a menu.
pub(super) fn first(items: &[Item]) -> Option<(&Item, &Body)> {
    items.iter().find_map(Item::entry)
}

/// All entries by their full names.
pub(super) fn names(items: &[Item]) -> Vec<String> {
    let mut found = Vec::new();
    for item in items {
        match &item.kind {
            Kind::Entry(_) => found.push(item.title.clone()),
            Kind::Submenu(inside) => found.extend(
                names(inside)
                    .into_iter()
                    .map(|name| format!("{}>{name}", item.title)),
            ),
        }
    }
    found
}
