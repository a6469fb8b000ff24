//! Objects that choose one of several kinds: `encoder { kind = bert, bert { layers = 3 }, nbow { … } }`.
//!
//! The fields of the chosen kind's object and the fields written directly in the outer object become one flat object, which is what
//! the types are read from: `{ kind = bert, layers = 3 }`. Direct fields win. Objects of the other kinds are dropped. Which names are
//! kinds comes from the JSON Schema of the type: `#[serde(tag = "kind")]` gives a `oneOf` whose members have a constant `kind`.

use std::collections::BTreeMap;

use hocon::{HoconValue, ScalarValue};
use serde_json::{Map, Value};

use super::messages::{unknown_key, unknown_value};

/// The key that chooses.
pub(crate) const KIND: &str = "kind";

/// One place of a schema, with the document that its references point into.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    schema: &'a Value,
    document: &'a Value,
}

/// The kinds that an object may choose, by name.
pub(crate) type Kinds<'a> = BTreeMap<&'a str, Fields<'a>>;

/// The fields of one kind.
pub(crate) struct Fields<'a> {
    node: Node<'a>,
    properties: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Names of the fields, without `kind`.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        self.properties.keys().map(String::as_str).filter(|name| *name != KIND).collect()
    }

    fn has(&self, name: &str) -> bool {
        name != KIND && self.properties.contains_key(name)
    }

    /// Are other fields refused?
    fn is_closed(&self) -> bool {
        ["additionalProperties", "unevaluatedProperties"].iter().any(|key| self.node.schema[*key] == Value::Bool(false))
    }

    fn required(&self) -> impl Iterator<Item = &'a str> {
        let required = self.node.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        required.filter(|name| *name != KIND)
    }
}

impl<'a> Node<'a> {
    /// The root of a schema.
    pub(crate) fn root(document: &'a Value) -> Self {
        Self { schema: document, document }
    }

    fn at(self, schema: &'a Value) -> Self {
        Self { schema, ..self }
    }

    /// Follows `$ref` as far as it goes. A chain is never longer than the number of definitions.
    fn resolved(self) -> Self {
        let mut node = self;
        for _ in 0..64 {
            let Some(pointer) = node.schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) else { break };
            match self.document.pointer(pointer) {
                Some(schema) => node = self.at(schema),
                None => break,
            }
        }
        node
    }

    /// The alternatives of this place: the members of `oneOf` and `anyOf`, or the place itself.
    fn alternatives(self) -> Vec<Node<'a>> {
        let node = self.resolved();
        let members = ["oneOf", "anyOf"].iter().filter_map(|key| node.schema[*key].as_array()).flatten();
        let mut found: Vec<Node<'a>> = members.flat_map(|member| node.at(member).alternatives()).collect();
        if found.is_empty() {
            found.push(node);
        }
        found
    }

    /// The kinds of this place; none where the object chooses nothing.
    pub(crate) fn kinds(self) -> Kinds<'a> {
        let kind_of = |node: Node<'a>| {
            let properties = node.schema["properties"].as_object()?;
            Some((properties.get(KIND)?["const"].as_str()?, Fields { node, properties }))
        };
        self.alternatives().into_iter().filter_map(kind_of).collect()
    }

    /// Has the value this `format`?
    pub(crate) fn has_format(self, format: &str) -> bool {
        self.alternatives().iter().any(|node| node.schema["format"] == format)
    }

    /// May the value be null?
    fn is_optional(self) -> bool {
        self.alternatives().iter().any(|node| node.schema["type"] == "null")
    }

    /// The schema of a member of an object, or of any member of a map.
    pub(crate) fn member(self, name: &str) -> Option<Node<'a>> {
        self.alternatives().into_iter().find_map(|node| {
            let schema = node.schema["properties"].get(name).or_else(|| node.schema.get("additionalProperties"));
            schema.filter(|schema| schema.is_object()).map(|schema| node.at(schema))
        })
    }

    pub(crate) fn items(self) -> Option<Node<'a>> {
        self.alternatives().into_iter().find_map(|node| node.schema.get("items").map(|schema| node.at(schema)))
    }
}

/// The kind that an object chooses.
fn chosen(value: &HoconValue) -> Option<&str> {
    value.as_object()?.get(KIND)?.as_str()
}

/// Flattens every object that chooses a kind, also inside of others. `path`: dotted name of the value, for messages.
///
/// # Errors
/// An unknown kind, or a key that no field of its kind has: the message names the nearest known one.
pub(crate) fn flatten(value: &mut HoconValue, node: Node<'_>, path: &str) -> Result<(), String> {
    let kinds = node.kinds();
    let mut node = node;
    if !kinds.is_empty() && value.is_object() {
        let Some(kind) = chosen(value).map(str::to_owned) else { return without_kind(value, node, &kinds, path) };
        node = choose(value, &kinds, &kind, path)?.node;
    }
    match value {
        HoconValue::Object(members) => {
            for (name, member) in members.iter_mut() {
                if let Some(known) = node.member(name) {
                    flatten(member, known, &format!("{path}.{name}"))?;
                }
            }
        }
        HoconValue::Array(items) => {
            let Some(node) = node.items() else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                flatten(item, node, &format!("{path}[{index}]"))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// An object whose `kind` is null or missing: null where the place may be null and nothing but objects of kinds is given.
fn without_kind(value: &mut HoconValue, node: Node<'_>, kinds: &Kinds<'_>, path: &str) -> Result<(), String> {
    let HoconValue::Object(members) = value else { return Ok(()) };
    let is_default = |(name, member): (&String, &HoconValue)| match name.as_str() {
        KIND => member.is_null(),
        name => kinds.contains_key(name) && (member.is_object() || member.is_null()),
    };
    let names = || kinds.keys().copied().collect::<Vec<_>>();
    if !members.iter().all(is_default) || !node.is_optional() {
        return Err(format!("`{path}` has no kind: write `{path}.{KIND} = …` ({})", names().join(", ")));
    }
    *value = HoconValue::Scalar(ScalarValue::null());
    Ok(())
}

/// Makes the object of the chosen kind flat, and returns the fields of that kind.
fn choose<'a, 'k>(value: &mut HoconValue, kinds: &'k Kinds<'a>, kind: &str, path: &str) -> Result<&'k Fields<'a>, String> {
    let names: Vec<&str> = kinds.keys().copied().collect();
    let Some(fields) = kinds.get(kind) else {
        return Err(unknown_value(&format!("{path}.{KIND}"), kind, &names));
    };
    let HoconValue::Object(members) = value else { return Ok(fields) };
    // A field of the chosen kind that has the name of a kind is a field.
    let is_default = |name: &str, member: &HoconValue| {
        kinds.contains_key(name) && (!fields.has(name) || name == kind) && (member.is_object() || member.is_null())
    };
    let given = std::mem::take(members);
    members.insert(KIND.to_owned(), HoconValue::Scalar(ScalarValue::string(kind.to_owned())));
    let mut direct = Vec::new();
    for (name, member) in given {
        if !is_default(&name, &member) {
            direct.push((name, member));
            continue;
        }
        let HoconValue::Object(defaults) = member else { continue };
        check_defaults(defaults.keys().map(String::as_str), &kinds[name.as_str()], &format!("{path}.{name}"))?;
        if name == kind {
            members.extend(defaults);
        }
    }
    for (name, member) in direct {
        if name != KIND && fields.is_closed() && !fields.has(&name) {
            return Err(misplaced(kinds, kind, &name, path));
        }
        match members.get_mut(&name) {
            Some(default) => write_over(default, member),
            None => drop(members.insert(name, member)),
        }
    }
    let missing: Vec<&str> = fields.required().filter(|name| !members.contains_key(*name)).collect();
    if let Some(first) = missing.first() {
        let missing = missing.join(", ");
        return Err(format!(
            "`{path}`: kind `{kind}` needs {missing}: write `{path}.{first} = …`, set the environment variable where its value is \
             `${{?VARIABLE}}`, or delete a line `{path} = null` before it"
        ));
    }
    Ok(fields)
}

/// Refuses a key of a kind's object that the kind does not have.
fn check_defaults<'n>(given: impl Iterator<Item = &'n str>, fields: &Fields<'_>, path: &str) -> Result<(), String> {
    let mut unknown = given.filter(|name| fields.is_closed() && !fields.has(name));
    unknown.next().map_or(Ok(()), |name| Err(unknown_key(&format!("{path}.{name}"), name, &fields.names())))
}

/// A direct field that the chosen kind does not have.
fn misplaced(kinds: &Kinds<'_>, kind: &str, name: &str, path: &str) -> String {
    if let Some((other, _)) = kinds.iter().find(|(_, fields)| fields.has(name)) {
        return format!(
            "unknown key `{path}.{name}`: kind `{kind}` has no `{name}`; write `{path}.{other}.{name} = …` where it is meant for kind `{other}`"
        );
    }
    unknown_key(&format!("{path}.{name}"), name, &[kinds[kind].names(), kinds.keys().copied().collect()].concat())
}

/// Writes a value over another: objects are merged, anything else is replaced.
fn write_over(old: &mut HoconValue, new: HoconValue) {
    match (old, new) {
        (HoconValue::Object(old), HoconValue::Object(new)) => {
            for (name, member) in new {
                match old.get_mut(&name) {
                    Some(old) => write_over(old, member),
                    None => drop(old.insert(name, member)),
                }
            }
        }
        (old, new) => *old = new,
    }
}
