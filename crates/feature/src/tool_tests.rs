use super::*;

const DOCUMENTATION: &str = include_str!("../../../results/FORMAT.md");

/// The lines of a tool's two tables.
fn lines(tool: Tool) -> Vec<String> {
    let written =
        tool.columns().iter().map(|column| format!("| `{}` | {} | {} |", column.name, column.ours(), column.differs));
    let left_out = tool.left_out().iter().map(|(names, why)| format!("| {names} | not written | {why} |"));
    written.chain(left_out).map(|line| line.replace(" |  |", " | |")).collect()
}

#[test]
fn the_documentation_has_every_column_of_every_tool() {
    for tool in Tool::ALL {
        let table = lines(tool).join("\n");
        assert!(DOCUMENTATION.contains(&table), "results/FORMAT.md lacks the table of {}:\n{table}", tool.name());
    }
}

#[test]
fn names_are_there_once() {
    for tool in Tool::ALL {
        let mut names: Vec<&str> = tool.columns().iter().map(|column| column.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{}", tool.name());
    }
}
