//! A JSON Schema of every payload, made from the types: `kafka/messages` is for those who read the bus in another
//! language.
//!
//! A schema says what [`Event::decode`] reads, and like it lets unknown properties pass, so that a reader that keeps to
//! the schema survives whatever a later program adds. Keys have an order of their own here, because that of a JSON map
//! hangs on which features of `serde_json` some package has switched on.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value};

use super::codec::{Event, EventKind};

/// Event type and JSON Schema (draft 2020-12) of every type in [`Event::KINDS`], in that order.
///
/// A schema is indented and ends with a line feed; its file is named by [`EventKind::schema_file`].
pub fn schemas() -> Vec<(&'static str, String)> {
    let kinds = Event::KINDS.iter().zip(Event::payload_schemas());
    kinds.map(|(kind, schema)| (kind.event_type, Document::new(*kind, schema).text())).collect()
}

/// The schema of the payload that a variant holds, described by what the variant and the payload say of themselves.
///
/// The variant serves as the name of the payload's type and is never called.
pub(super) fn payload_schema<P: JsonSchema, E: JsonSchema>(event_type: &str, _: fn(P) -> E) -> Schema {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<P>();
    let happened = variant_description(&schemars::schema_for!(E), event_type);
    let payload = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{happened}\n\n{payload}");
    schema.insert("description".to_owned(), description.into());
    schema
}

/// An enum's schema has an object for each variant, whose one property is the variant.
fn variant_description(schema: &Schema, variant: &str) -> String {
    let variants = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = variants.iter().find(|one| one["properties"].get(variant).is_some());
    found.and_then(|one| one["description"].as_str()).unwrap_or_default().to_owned()
}

/// What is read first stands first, and the definitions last.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "$schema")]
    dialect: Option<Value>,
    #[serde(rename = "$id")]
    id: String,
    title: &'static str,
    description: Option<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
    #[serde(rename = "$defs", skip_serializing_if = "Option::is_none")]
    definitions: Option<Value>,
}

impl Document {
    fn new(kind: EventKind, schema: Schema) -> Self {
        let mut schema = schema.to_value();
        schema.sort_all_objects();
        let mut rest = match schema {
            Value::Object(rest) => rest,
            _ => Map::new(),
        };
        rest.remove("title");
        Self {
            dialect: rest.remove("$schema"),
            id: kind.schema_file(),
            title: kind.event_type,
            description: rest.remove("description"),
            definitions: rest.remove("$defs"),
            rest,
        }
    }

    fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("JSON values with string keys always serialise") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;
    use std::str::FromStr;

    use proptest::prelude::*;
    use proptest::string::string_regex;
    use serde_json::json;

    use super::super::golden;
    use super::*;
    use crate::domain::asset::Quarter;
    use crate::domain::currency::{Currency, Symbol};
    use crate::domain::money::{Amount, Price, Quantity, Rate};

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/messages");
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let committed: BTreeMap<_, _> = files
            .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
            .collect();
        let texts = schemas().into_iter().map(|(_, text)| text);
        let generated: BTreeMap<_, _> =
            Event::KINDS.iter().map(|kind| kind.schema_file()).zip(texts).collect();

        let names: BTreeSet<_> = committed.keys().chain(generated.keys()).collect();
        let differing: Vec<_> =
            names.into_iter().filter(|name| committed.get(*name) != generated.get(*name)).collect();
        assert!(
            differing.is_empty(),
            "kafka/messages is not what the types say: run scripts/generate and commit {differing:?}"
        );
    }

    #[test]
    fn everything_is_described() {
        for (event_type, schema) in parsed() {
            let description = schema["description"].as_str().unwrap();
            let parts: Vec<_> = description.splitn(2, "\n\n").map(str::is_empty).collect();
            assert_eq!(parts, [false, false], "{event_type}: {description:?}");

            let definitions = schema["$defs"].as_object().into_iter().flatten().map(|(_, schema)| schema);
            for object in definitions.chain([&schema]) {
                assert!(object["description"].is_string(), "{event_type}: {object}");
                for (name, property) in object["properties"].as_object().into_iter().flatten() {
                    assert!(property["description"].is_string(), "{event_type}: {name}");
                }
            }
        }
    }

    #[test]
    fn every_current_payload_fits_its_schema() {
        for (event_type, schema, payload) in current_payloads() {
            assert_eq!(misfits(&schema, &schema, &payload, ""), [""; 0], "{event_type}");
        }
    }

    /// What may be left out, what may be null, and what is a number, a list or a truth.
    #[test]
    fn a_schema_refuses_what_the_decoder_refuses() {
        for (event_type, schema, payload) in current_payloads() {
            let version = schema["$id"].as_str().unwrap().split('.').nth(1).unwrap()[1..].parse().unwrap();
            for name in payload.as_object().unwrap().keys() {
                for other in [None, Some(json!(null)), Some(json!(12)), Some(json!(true)), Some(json!([]))] {
                    let mut changed = payload.clone();
                    let properties = changed.as_object_mut().unwrap();
                    match other {
                        None => properties.remove(name),
                        Some(other) => properties.insert(name.clone(), other),
                    };
                    let is_read = Event::decode(&event_type, version, &changed.to_string()).is_ok();
                    let misfits = misfits(&schema, &schema, &changed, "");
                    assert_eq!(misfits.is_empty(), is_read, "{event_type} {changed}: {misfits:?}");
                }
            }
        }
    }

    #[test]
    fn whatever_fits_a_pattern_is_read() {
        pattern_is_read::<Amount>();
        pattern_is_read::<Quantity>();
        pattern_is_read::<Price>();
        pattern_is_read::<Rate>();
        pattern_is_read::<Currency>();
        pattern_is_read::<Symbol>();
        pattern_is_read::<Quarter>();
    }

    fn pattern_is_read<T: JsonSchema + FromStr>() {
        let schema = schemars::schema_for!(T).to_value();
        let pattern = schema["pattern"].as_str().unwrap();
        let inside = pattern.strip_prefix('^').unwrap().strip_suffix('$').unwrap();
        proptest!(|(text in string_regex(inside).unwrap())| {
            prop_assert!(text.parse::<T>().is_ok(), "{text:?} fits {pattern}");
        });
    }

    fn parsed() -> Vec<(&'static str, Value)> {
        let schemas = schemas().into_iter();
        schemas.map(|(event_type, text)| (event_type, serde_json::from_str(&text).unwrap())).collect()
    }

    /// Event type, schema and payload. Of an older version only the upcast fits.
    fn current_payloads() -> Vec<(String, Value, Value)> {
        let schemas: BTreeMap<_, _> = parsed().into_iter().collect();
        let mut current = Vec::new();
        for (event_type, version, payload) in golden::payloads() {
            let schema = &schemas[event_type.as_str()];
            let kind = Event::decode(&event_type, version, &payload).unwrap().kind();
            if kind.schema_version == version {
                current.push((event_type, schema.clone(), serde_json::from_str(&payload).unwrap()));
            }
        }
        assert_eq!(current.len(), Event::KINDS.len());
        current
    }

    /// Where `value` does not fit `schema`: a required property that is missing, one that is unknown (a schema lets
    /// it pass, a payload of ours has none), another type, a word that is not in the list.
    fn misfits(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let defined = root.pointer(reference.strip_prefix('#').unwrap()).unwrap();
            return misfits(root, defined, value, at);
        }
        if let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
            let fits = choices.iter().any(|choice| misfits(root, choice, value, at).is_empty());
            return if fits { Vec::new() } else { vec![format!("{at} fits no choice: {value}")] };
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        let is_listed = schema.get("const").is_none_or(|only| only == value);
        if !types.contains(&json!(type_name(value))) || !is_listed {
            return vec![format!("{at} is {value}")];
        }

        let mut found = Vec::new();
        for (name, property) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(schema) => found.extend(misfits(root, schema, property, &format!("{at}/{name}"))),
                None => found.push(format!("{at}/{name} is unknown")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                found.push(format!("{at}/{name} is missing"));
            }
        }
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(misfits(root, &schema["items"], item, &format!("{at}/{n}")));
        }
        found
    }

    fn type_name(value: &Value) -> &'static str {
        match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}
