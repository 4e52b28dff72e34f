//! Reads ARFF files as features: the role and type of each attribute, and the instances as rows.

use std::fs::File;
use std::io::BufReader;

use super::arff::{ArffReader, ArffType, ArffValue};
use super::rows::{Fault, KnownLabels, MISSING, NOT_FINITE, Named, OneFile, Role, Rows, label_columns, single};

/// Reads the rows of an ARFF file.
pub(super) fn read(input: BufReader<File>, mut rows: Rows<'_>) -> Result<OneFile, Fault> {
    let mut reader = ArffReader::new(input).map_err(|error| (error.line, error.problem))?;
    let attributes = reader.attributes.clone();
    let columns: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    rows.check(&columns, false).map_err(|problem| (1, problem))?;
    let mut names = Vec::new();
    let mut roles = Vec::new();
    for attribute in &attributes {
        let role = match (rows.role(&attribute.name), &attribute.kind) {
            (Some(role), _) => role,
            (None, ArffType::Numeric) => {
                names.push(attribute.name.clone());
                Role::Number
            }
            (None, ArffType::Nominal(values)) => {
                names.extend(values.iter().map(|value| format!("{}={value}", attribute.name)));
                Role::OneOf(values.len())
            }
            (None, ArffType::Text) => {
                let problem =
                    format!("`{}` is text, which cannot be a feature; list it in `leave_out`", attribute.name);
                return Err((1, problem));
            }
        };
        roles.push(role);
    }
    let label_columns = label_columns(&columns, &roles);
    let mut known = KnownLabels::new();
    while let Some((line, row)) = reader.next_row().map_err(|error| (error.line, error.problem))? {
        let fault = |problem: String| (line, problem);
        let mut values = Vec::with_capacity(names.len());
        let mut named = Named::default();
        for ((value, role), attribute) in row.iter().zip(&roles).zip(&attributes) {
            match (role, value) {
                (Role::LeftOut | Role::Endpoint(_), _) => {}
                (Role::Label, ArffValue::Missing) => {
                    return Err(fault(format!("label `{}` is missing", attribute.name)));
                }
                (Role::Label, ArffValue::Number(_) | ArffValue::NotFinite) => {
                    return Err(fault(format!("label `{}` is a number; declare its values", attribute.name)));
                }
                (Role::Label, value) => named.labels.push(text_of(value, &attribute.kind)),
                (Role::Group, value) => named.group.push(text_of(value, &attribute.kind)),
                (Role::Number, ArffValue::Number(number)) => values.push(single(*number).map_err(fault)?),
                (Role::OneOf(count), ArffValue::Nominal(index)) => {
                    values.extend((0..*count).map(|place| f32::from(u8::from(place == *index))));
                }
                (Role::OneOf(count), _) => {
                    let value = rows.missing(&attribute.name, MISSING).map_err(fault)?;
                    values.extend(std::iter::repeat_n(value, *count));
                }
                (Role::Number, ArffValue::NotFinite) => {
                    values.push(rows.missing(&attribute.name, NOT_FINITE).map_err(fault)?);
                }
                (Role::Number, _) => values.push(rows.missing(&attribute.name, MISSING).map_err(fault)?),
            }
        }
        let row = rows.make(values, &label_columns, &named, &mut known).map_err(fault)?;
        rows.add(row).map_err(fault)?;
    }
    rows.notes.extend(reader.notes());
    rows.finish(names)
}

/// Returns a value as written in the file.
fn text_of(value: &ArffValue, kind: &ArffType) -> String {
    match (value, kind) {
        (ArffValue::Text(text), _) => text.clone(),
        (ArffValue::Nominal(index), ArffType::Nominal(words)) => words[*index].clone(),
        (ArffValue::Number(number), _) => number.to_string(),
        _ => "?".to_owned(),
    }
}
