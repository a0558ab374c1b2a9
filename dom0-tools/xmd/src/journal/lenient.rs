//! Reading entries that another version of xmd has written. Unknown fields are taken out, and kept
//! beside the value, so that [`put_back`] can write them again: an entry that an older xmd rewrites
//! loses nothing for the newer one that follows.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};
use std::cell::RefCell;

/// The unknown fields of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    path: Vec<Step>,
    fields: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Element(usize),
    /// The element that looks like this: elements before it may come and go.
    Like(Value),
}

impl Unknown {
    /// The fields' names, for people: `config.disks.colour`.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> + '_ {
        let path: String = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(format!("{name}.")),
                Step::Element(_) | Step::Like(_) => None,
            })
            .collect();
        self.fields.keys().map(move |key| format!("{path}{key}"))
    }
}

/// Reads a value into its type. Returns the unknown fields too.
///
/// # Errors
/// `serde_json::Error` if a required field is missing, or has a value that this version does not
/// know.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Result<(T, Vec<Unknown>), Error> {
    let found = RefCell::default();
    let read = T::deserialize(Reader {
        value,
        path: Vec::new(),
        found: &found,
    })?;
    Ok((read, found.into_inner()))
}

/// Replaces places in lists by what stands there in `plain`, which is the value without unknown
/// fields.
pub(crate) fn remember(unknown: &mut [Unknown], plain: &Value) {
    for one in unknown {
        let mut at = Some(plain);
        for step in &mut one.path {
            at = at.and_then(|value| match step {
                Step::Field(name) => value.get(name.as_str()),
                Step::Element(index) => value.get(*index),
                Step::Like(_) => None,
            });
            if let (Step::Element(_), Some(value)) = (&step, at) {
                *step = Step::Like(value.clone());
            }
        }
    }
}

/// Adds the unknown fields to a value that is about to be written. Fields whose object is gone are
/// left out.
pub(crate) fn put_back(value: &mut Value, unknown: &[Unknown]) {
    // All places are found before any is changed: an element is known by what it looks like.
    let places: Vec<_> = unknown
        .iter()
        .filter_map(|one| Some((pointer(value, &one.path)?, &one.fields)))
        .collect();
    for (place, fields) in places {
        if let Some(object) = value.pointer_mut(&place).and_then(Value::as_object_mut) {
            for (key, field) in fields {
                object.entry(key.clone()).or_insert_with(|| field.clone());
            }
        }
    }
}

/// The place of a path in a value, as a JSON pointer (RFC 6901).
fn pointer(value: &Value, path: &[Step]) -> Option<String> {
    let mut pointer = String::new();
    let mut at = value;
    for step in path {
        let key = match step {
            Step::Field(name) => name.replace('~', "~0").replace('/', "~1"),
            Step::Element(index) => index.to_string(),
            Step::Like(one) => at
                .as_array()?
                .iter()
                .position(|other| other == one)?
                .to_string(),
        };
        at = match at {
            Value::Array(list) => list.get(key.parse::<usize>().ok()?)?,
            object => object.get(match step {
                Step::Field(name) => name.as_str(),
                _ => return None,
            })?,
        };
        pointer.push('/');
        pointer.push_str(&key);
    }
    Some(pointer)
}

/// A value on its way into a type; only structures are distinguished from other JSON.
struct Reader<'a> {
    value: Value,
    path: Vec<Step>,
    found: &'a RefCell<Vec<Unknown>>,
}

impl<'a> Reader<'a> {
    fn below(&self, step: Step, value: Value) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self {
            value,
            path,
            found: self.found,
        }
    }

    fn members(
        &self,
        map: Map<String, Value>,
    ) -> MapDeserializer<'static, std::vec::IntoIter<(String, Reader<'a>)>, Error> {
        let members: Vec<_> = map
            .into_iter()
            .map(|(key, value)| (key.clone(), self.below(Step::Field(key), value)))
            .collect();
        MapDeserializer::new(members.into_iter())
    }
}

impl IntoDeserializer<'_, Error> for Reader<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Value::Array(list) => {
                let elements = list.into_iter().enumerate();
                let elements = elements.map(|(n, value)| self.below(Step::Element(n), value));
                let elements: Vec<_> = elements.collect();
                SeqDeserializer::new(elements.into_iter()).deserialize_any(visitor)
            }
            Value::Object(map) => visitor.visit_map(self.members(map)),
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Object(map) = self.value.take() else {
            return Err(serde::de::Error::custom("an object is expected"));
        };
        let (map, fields): (Map<_, _>, Map<_, _>) = map
            .into_iter()
            .partition(|(key, _)| known.contains(&key.as_str()));
        if !fields.is_empty() {
            let path = self.path.clone();
            self.found.borrow_mut().push(Unknown { path, fields });
        }
        visitor.visit_map(self.members(map))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value.take() {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            Value::Object(map) => visitor.visit_enum(MapAccessDeserializer::new(self.members(map))),
            _ => Err(serde::de::Error::custom(
                "the name of a variant is expected",
            )),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}
