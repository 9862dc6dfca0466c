//! Messages of serde and of the standard library's parsers, rewritten for people who wrote the value: in a config file,
//! in a variable, in the query of a URL or in JSON.

/// What is wrong with a value, from the message of serde or of a parser. `given`: the value as it was written, for
/// messages that do not quote it. Messages that are not known stay as they are.
pub fn of_value(message: &str, given: Option<&str>) -> String {
    if let Some(rest) = message.strip_prefix("invalid type: ")
        && let Some((got, wanted)) = rest.rsplit_once(", expected ")
    {
        return wrong_type(&quoted(got), wanted);
    }
    if let Some(rest) = message.strip_prefix("invalid value: ")
        && let Some((got, wanted)) = rest.rsplit_once(", expected ")
    {
        return out_of_range(&quoted(got), wanted);
    }
    if message.starts_with("unknown variant `") {
        let mut words = message.split('`').skip(1).step_by(2);
        let unknown = words.next().unwrap_or_default();
        return format!("{unknown:?} is not known (expected {})", any_of(&words.collect::<Vec<_>>()));
    }
    let given = || given.unwrap_or("the value");
    match message {
        "invalid socket address syntax" => format!("{} is not ADDRESS:PORT, such as 127.0.0.1:5000", given()),
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            format!("{} is not a whole number", given())
        }
        "number too large to fit in target type" => format!("{} is too large", given()),
        "number too small to fit in target type" => format!("{} is too small", given()),
        "invalid float literal" | "cannot parse float from empty string" => format!("{} is not a number", given()),
        "provided string was not `true` or `false`" => format!("{} is neither true nor false", given()),
        other => other.to_owned(),
    }
}

/// Words in a row, as in a sentence: "a, b or c".
pub fn any_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// What serde found, without the name of its type: `integer `5`` is 5.
fn quoted(got: &str) -> String {
    let scalar = |kind: &str| Some(got.strip_prefix(kind)?.strip_prefix(" `")?.strip_suffix('`')?.to_owned());
    let number = ["integer", "floating point", "boolean"].into_iter().find_map(scalar);
    let text = || got.strip_prefix("string ").map(str::to_owned);
    number.or_else(text).unwrap_or_else(|| match got {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        other => other.to_owned(),
    })
}

fn wrong_type(got: &str, wanted: &str) -> String {
    match wanted {
        whole if limits(whole).is_some() => format!("{got} is not a whole number"),
        "f32" | "f64" => format!("{got} is not a number"),
        "a boolean" => format!("{got} is neither true nor false"),
        "a string" | "a borrowed string" | "string or map" => format!("{got} is not a text; write it in quotes"),
        "a sequence" if got.starts_with("a ") => "must be a list".to_owned(),
        "a sequence" => format!("must be a list: [{got}]"),
        table if table == "a map" || table.starts_with("struct ") => format!("must be a table, not {got}"),
        other => format!("{got} is not {other}"),
    }
}

fn out_of_range(got: &str, wanted: &str) -> String {
    match limits(wanted) {
        Some((0, _)) if got.starts_with('-') => format!("{got} is not a whole number of 0 or more"),
        Some((least, most)) => format!("{got} is not between {least} and {most}"),
        None => wrong_type(got, wanted),
    }
}

/// The least and the greatest value of a type of whole numbers.
fn limits(kind: &str) -> Option<(i128, i128)> {
    Some(match kind {
        "u8" => (0, u8::MAX.into()),
        "u16" => (0, u16::MAX.into()),
        "u32" => (0, u32::MAX.into()),
        "u64" | "usize" => (0, u64::MAX.into()),
        "i32" => (i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_the_value_should_be() {
        for (message, words) in [
            ("invalid type: string \"many\", expected usize", "\"many\" is not a whole number"),
            ("invalid type: floating point `1.5`, expected u32", "1.5 is not a whole number"),
            ("invalid type: string \"x, expected y\", expected f32", "\"x, expected y\" is not a number"),
            ("invalid type: integer `5`, expected a boolean", "5 is neither true nor false"),
            ("invalid type: integer `5`, expected a string", "5 is not a text; write it in quotes"),
            ("invalid type: string \"a\", expected a sequence", "must be a list: [\"a\"]"),
            ("invalid type: map, expected a sequence", "must be a list"),
            ("invalid type: integer `5`, expected struct Clips", "must be a table, not 5"),
            ("invalid value: integer `-1`, expected usize", "-1 is not a whole number of 0 or more"),
            ("invalid value: integer `70000`, expected u16", "70000 is not between 0 and 65535"),
            ("unknown variant `xml`, expected `text` or `json`", "\"xml\" is not known (expected text or json)"),
            ("unknown variant `x`, expected one of `a`, `b`, `c`", "\"x\" is not known (expected a, b or c)"),
            ("\"cat\" is not a source", "\"cat\" is not a source"),
        ] {
            assert_eq!(of_value(message, Some("unused")), words);
        }
    }

    #[test]
    fn messages_without_the_value_get_it() {
        for (message, words) in [
            ("invalid socket address syntax", "\"x\" is not ADDRESS:PORT, such as 127.0.0.1:5000"),
            ("invalid digit found in string", "\"x\" is not a whole number"),
            ("number too large to fit in target type", "\"x\" is too large"),
            ("invalid float literal", "\"x\" is not a number"),
            ("provided string was not `true` or `false`", "\"x\" is neither true nor false"),
        ] {
            assert_eq!(of_value(message, Some("\"x\"")), words);
        }
        assert_eq!(of_value("invalid float literal", None), "the value is not a number");
    }
}
