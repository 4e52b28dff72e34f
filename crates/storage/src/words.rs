//! Counts in messages: a noun in singular or plural.

/// Returns a count with its noun, given in the singular: `1 flow`, `2 flows`, `2 entries`, `3 classes`.
pub fn counted(count: u64, one: &str) -> String {
    // The noun may be preceded by other words.
    let (several, ending) = match one {
        _ if one.ends_with("ss") => (one, "es"),
        _ if one.ends_with('y') => (&one[..one.len() - 1], "ies"),
        _ => (one, "s"),
    };
    if count == 1 { format!("1 {one}") } else { format!("{count} {several}{ending}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_follows_its_count() {
        let texts =
            [counted(1, "flow"), counted(0, "flow"), counted(2, "entry"), counted(1, "class"), counted(3, "class")];
        assert_eq!(texts, ["1 flow", "0 flows", "2 entries", "1 class", "3 classes"]);
    }
}
