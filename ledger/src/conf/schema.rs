//! The JSON Schema (draft 2020-12) of a whole configuration, from the types that the sections are read into.

use serde_json::{Map, Value, json};

use super::{
    Section,
    kinds::{KIND, Node},
};

/// The schema of a configuration with these sections.
pub(crate) fn of_sections(sections: &[Section]) -> Value {
    let (mut properties, mut definitions) = (Map::new(), Map::new());
    for section in sections {
        let mut schema = section.schema.clone();
        both_forms(&mut schema);
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
            if let Some(Value::Object(own)) = members.remove("$defs") {
                for (name, mut definition) in own {
                    rename_references(&mut definition, section.name);
                    definitions.insert(format!("{}.{name}", section.name), definition);
                }
            }
        }
        rename_references(&mut schema, section.name);
        properties.insert(section.name.to_owned(), schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "codenets configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// Two sections may define types of one name.
fn rename_references(schema: &mut Value, section: &str) {
    match schema {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => {
                        *reference = reference.replacen("#/$defs/", &format!("#/$defs/{section}."), 1);
                    }
                    member => rename_references(member, section),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, section)),
        _ => {}
    }
}

/// Lets every object that chooses a kind also be written with an object for each kind.
fn both_forms(schema: &mut Value) {
    if let Some(forms) = forms(schema) {
        let description = schema.get("description").cloned();
        *schema = forms;
        if let Some(description) = description {
            schema["description"] = description;
        }
        return;
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(both_forms),
        Value::Array(items) => items.iter_mut().for_each(both_forms),
        _ => {}
    }
}

/// The forms of a tagged enum: for each kind, its fields directly in the object, and an object for any kind. All required fields are
/// there directly, or the object of the chosen kind is.
fn forms(schema: &Value) -> Option<Value> {
    let variants = schema.get("oneOf")?.as_array()?;
    let kinds = Node::root(schema).kinds();
    if kinds.len() != variants.len() {
        return None;
    }
    let mut objects = Map::new();
    for variant in variants {
        let mut object = variant.clone();
        object["properties"].as_object_mut()?.remove(KIND);
        // Other fields may be written directly in the outer object.
        object.as_object_mut()?.remove("required");
        objects.insert(variant["properties"][KIND]["const"].as_str()?.to_owned(), object);
    }
    let forms = variants.iter().map(|variant| {
        let mut form = variant.clone();
        let kind = variant["properties"][KIND]["const"].clone();
        let properties = form["properties"].as_object_mut()?;
        for (name, object) in &objects {
            properties.entry(name.clone()).or_insert_with(|| object.clone());
        }
        let required = form.as_object_mut()?.remove("required").unwrap_or_else(|| json!([KIND]));
        form["anyOf"] = json!([{ "required": required }, { "required": [KIND, kind] }]);
        Some(form)
    });
    Some(json!({ "oneOf": forms.collect::<Option<Vec<_>>>()? }))
}
