//! The text of an ARFF line: quoted and plain fields, comments, and the declaration of an attribute.

use super::arff::{ArffAttribute, ArffType, ArffValue};
use etcbench_storage::declarative::first_repeated;

/// A field of a line: its text, and whether it was quoted.
pub(super) struct FieldText {
    pub text: String,
    pub quoted: bool,
}

pub(super) fn value(field: FieldText, attribute: &ArffAttribute) -> Result<ArffValue, String> {
    if field.text == "?" && !field.quoted {
        return Ok(ArffValue::Missing);
    }
    match &attribute.kind {
        ArffType::Text => Ok(ArffValue::Text(field.text)),
        ArffType::Numeric => match field.text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(ArffValue::Number(number)),
            Ok(_) => Ok(ArffValue::NotFinite),
            Err(_) => Err(format!("`{}` is not a finite number; write ? for a missing value", shown(&field.text))),
        },
        ArffType::Nominal(values) => match values.iter().position(|value| *value == field.text) {
            Some(index) => Ok(ArffValue::Nominal(index)),
            None => Err(format!("`{}` is none of its values ({})", shown(&field.text), shown(&values.join(", ")))),
        },
    }
}

/// Parses `NAME TYPE`, with or without quotes around the name.
pub(super) fn attribute(text: &str) -> Result<ArffAttribute, String> {
    let (name, rest) = match text.chars().next() {
        None => return Err("@attribute without a name".to_owned()),
        Some(quote @ ('\'' | '"')) => {
            let (name, length) = quoted(text, quote)?;
            (name, &text[length..])
        }
        Some('{') => return Err("@attribute without a name".to_owned()),
        Some(_) => {
            let end = text.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
    };
    let rest = rest.trim();
    if name.is_empty() {
        return Err("@attribute with an empty name".to_owned());
    }
    let kind = if let Some(list) = rest.strip_prefix('{') {
        let list = list.strip_suffix('}').ok_or_else(|| format!("the values of `{name}` lack a closing brace"))?;
        let values: Vec<String> = fields(list)?.into_iter().map(|field| field.text).collect();
        if let Some(value) = values.iter().find(|value| value.is_empty()).or_else(|| first_repeated(&values)) {
            return Err(format!("the values of `{name}` contain a duplicate or empty value (`{}`)", shown(value)));
        }
        ArffType::Nominal(values)
    } else {
        let word = rest.split_whitespace().next().unwrap_or("");
        match word.to_ascii_lowercase().as_str() {
            "numeric" | "real" | "integer" if is_nothing_or_a_range(&rest[word.len()..]) => ArffType::Numeric,
            "string" if rest.len() == word.len() => ArffType::Text,
            "date" => ArffType::Text,
            _ => {
                return Err(format!(
                    "`{name}` has type `{}`; supported are numeric, real, integer, string, date and {{values}}",
                    shown(rest)
                ));
            }
        }
    };
    Ok(ArffAttribute { name, kind })
}

/// Strips the comment at the end of a line: as in Weka, it starts with `%` anywhere outside quotes.
pub(super) fn without_comment(text: &str) -> &str {
    let (mut quote, mut escaped, mut begins) = (None, false, true);
    for (place, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) => quote = (open != letter).then_some(open),
            (None, '%') => return text[..place].trim_end(),
            (None, '\'' | '"') if begins => quote = Some(letter),
            (None, _) => {}
        }
        // A quote inside a word is an ordinary character.
        begins = letter.is_whitespace() || matches!(letter, ',' | '{');
    }
    text
}

/// Returns whether the text after a numeric type is empty or a range of values; the range is ignored.
fn is_nothing_or_a_range(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || (text.starts_with(['[', '(']) && text.ends_with([']', ')']))
}

/// Splits at commas outside quotes and trims whitespace around fields.
pub(super) fn fields(text: &str) -> Result<Vec<FieldText>, String> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                let (text, length) = quoted(rest, quote)?;
                (FieldText { text, quoted: true }, rest[length..].trim_start())
            }
            _ => {
                let end = rest.find(',').unwrap_or(rest.len());
                (FieldText { text: rest[..end].trim_end().to_owned(), quoted: false }, &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(fields),
            None => return Err(format!("`{}` follows a closing quote; expected a comma", shown(after))),
        }
    }
}

/// Parses the quoted text at the start of `text`; also returns its length in bytes, including the quotes.
fn quoted(text: &str, quote: char) -> Result<(String, usize), String> {
    let mut content = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((place, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, 'n')) => content.push('\n'),
                Some((_, 'r')) => content.push('\r'),
                Some((_, 't')) => content.push('\t'),
                Some((_, escaped)) => content.push(escaped),
                None => break,
            },
            _ if character == quote => return Ok((content, place + character.len_utf8())),
            _ => content.push(character),
        }
    }
    Err(format!("a quote is not closed: {}", shown(text)))
}

/// Returns the start of a text, for a one-line message.
pub(super) fn shown(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { start + "..." } else { start }
}
