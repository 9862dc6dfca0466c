//! Checks a config against its JSON Schema. It knows the keywords that our schemas use, and refuses a schema with
//! others.

use serde_json::Value;

/// Keywords that are not checked, or checked elsewhere.
const NOTES: [&str; 7] = ["$schema", "default", "description", "format", "title", "writeOnly", "required"];

/// Checks a config against its schema.
///
/// # Errors
/// Names the first value that does not match, or the first unknown keyword of the schema.
pub fn validate(schema: &Value, config: &Value) -> Result<(), String> {
    check(schema, config, "")
}

fn check(schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    let Value::Object(words) = schema else { return Ok(()) };
    for (word, rule) in words {
        let holds = match word.as_str() {
            "type" => match rule {
                Value::Array(types) => types.iter().any(|one| has_type(value, one)),
                one => has_type(value, one),
            },
            "const" => value == rule,
            "enum" => list(rule).contains(value),
            "minimum" => number(value) >= number(rule) || !value.is_number(),
            "minLength" => value.as_str().is_none_or(|text| Some(text.chars().count() as u64) >= rule.as_u64()),
            "maximum" => number(value) <= number(rule) || !value.is_number(),
            "anyOf" => list(rule).iter().any(|one| check(one, value, path).is_ok()),
            "oneOf" => list(rule).iter().filter(|one| check(one, value, path).is_ok()).count() == 1,
            "items" => {
                list(value).iter().try_for_each(|item| check(rule, item, path))?;
                true
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    check(&rule[name], value, &format!("{path}.{name}"))?;
                }
                true
            }
            "additionalProperties" if *rule == false => {
                let known = |name: &String| schema["properties"].get(name).is_some();
                value.as_object().is_none_or(|object| object.keys().all(known))
            }
            word if NOTES.contains(&word) => true,
            word => return Err(format!("{path}: unknown keyword {word:?} in the schema")),
        };
        if !holds {
            return Err(format!("{path}: {value} does not match {word}: {rule}"));
        }
    }
    let missing = |name: &&Value| value.is_object() && value.get(name.as_str().unwrap_or_default()).is_none();
    match list(&schema["required"]).iter().find(missing) {
        Some(name) => Err(format!("{path}: {name} is missing")),
        None => Ok(()),
    }
}

fn has_type(value: &Value, word: &Value) -> bool {
    match word.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_match_is_named() {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": {
                "name": { "type": ["string", "null"], "description": "A name" },
                "gain": { "type": "number", "minimum": -1.5, "maximum": 2 },
                "tags": { "type": "array", "items": { "oneOf": [{ "const": "a" }, { "const": "b" }] } },
                "clips": {
                    "anyOf": [
                        { "type": "null" },
                        { "type": "object", "properties": { "keep": { "type": "integer" } } }
                    ]
                }
            }
        });
        let good = json!({ "name": "x", "gain": -1.5, "tags": ["a", "b"], "clips": { "keep": 1 } });
        assert_eq!(validate(&schema, &good), Ok(()));
        for (bad, said) in [
            (json!({ "name": 5 }), ".name: 5 does not match type"),
            (json!({ "name": null, "gain": 3 }), ".gain: 3 does not match maximum: 2"),
            (json!({ "name": null, "gain": -2 }), ".gain: -2 does not match minimum: -1.5"),
            (json!({ "name": null, "tags": ["a", "c"] }), ".tags: \"c\" does not match oneOf"),
            (json!({ "name": null, "clips": { "keep": 1.5 } }), ".clips: "),
            (json!({ "name": null, "more": 1 }), "additionalProperties: false"),
            (json!({ "gain": 1 }), "\"name\" is missing"),
            (json!([]), "does not match type"),
        ] {
            let error = validate(&schema, &bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
        let unknown = validate(&json!({ "pattern": "a" }), &json!("a")).unwrap_err();
        assert!(unknown.contains("\"pattern\""), "{unknown}");
    }
}
