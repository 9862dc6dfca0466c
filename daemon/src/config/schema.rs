//! The JSON Schema of a program's config file.

use schemars::generate::SchemaSettings;
use serde_json::{Number, Value};

use super::Settings;

/// The JSON Schema of the config file.
pub fn schema<S: Settings>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<S>().to_value();
    schema["title"] = format!("Config file of {}", S::PROGRAM).into();
    shorten_floats(&mut schema);
    schema
}

/// Writes numbers of single precision as they are written in the source: 0.2 and not 0.20000000298023224.
fn shorten_floats(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let single = object.get("format").is_some_and(|format| format == "float");
            for (key, value) in object {
                match value {
                    Value::Number(number) if single && ["default", "minimum", "maximum"].contains(&key.as_str()) => {
                        let shortest = number.as_f64().and_then(|wide| (wide as f32).to_string().parse().ok());
                        if let Some(shortest) = shortest.and_then(Number::from_f64) {
                            *number = shortest;
                        }
                    }
                    _ => shorten_floats(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten_floats),
        _ => {}
    }
}
