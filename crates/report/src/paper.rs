//! A report as files for a paper: every table as CSV, Markdown and LaTeX, every figure as SVG, and the LaTeX index that
//! includes them.

use std::path::Path;

use super::latex::escape;
use super::results::FigureFile;
use super::run_tables::write_table;
use super::{Report, ReportError, Table, file_error};
use etcbench_storage::write_whole;

/// A longer table does not fit a page; it is written as a file but not included in the document.
const LONGEST_ON_PAPER: usize = 45;

/// The number of files written; the three files of a table count as one.
pub struct PaperFiles {
    /// The tables.
    pub tables: usize,
    /// The figures.
    pub figures: usize,
}

impl Report {
    /// Writes every table and figure into the folders `tables` and `figures` of `paper`, and `tables/all.tex`, which
    /// includes them.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_paper(&self, paper: &Path) -> Result<PaperFiles, ReportError> {
        let folder = paper.join("tables");
        let figures = self.figures();
        let tables = self.paper_tables();
        for (name, table) in &tables {
            write_table(table, &folder, name)?;
        }
        let path = folder.join("all.tex");
        write_whole(&path, self.latex_index(&figures).as_bytes()).map_err(|problem| file_error(&path, problem))?;
        for file in &figures {
            let path = paper.join("figures").join(format!("{}.svg", file.path));
            let content = file.figure.to_svg_file();
            write_whole(&path, content.as_bytes()).map_err(|problem| file_error(&path, problem))?;
        }
        Ok(PaperFiles { tables: tables.len(), figures: figures.len() })
    }

    /// Returns every table with its file name.
    fn paper_tables(&self) -> Vec<(String, Table)> {
        let mut tables = vec![("runs".to_owned(), self.runs_table()), ("all-results".to_owned(), self.results_table())];
        for run in &self.runs {
            tables.extend(run.tables.iter().map(|table| (table.file_name(&run.stored.name), table.table.clone())));
        }
        tables.extend(self.audit.iter().map(|(name, table)| (audit_name(name), table.clone())));
        tables
    }

    /// Returns the LaTeX that includes tables and figures in the document, run by run.
    fn latex_index(&self, figures: &[FigureFile<'_>]) -> String {
        let drawn = |run: Option<&str>| -> String {
            let of_run = figures.iter().filter(|figure| figure.run == run && !figure.of_one_row);
            let line = |figure: &FigureFile<'_>| {
                format!("\\titled{{{}}}\n\\drawn{{figures/{}}}\n", escape(&figure.figure.title), figure.path)
            };
            of_run.map(line).collect()
        };
        let mut index = String::from("% Written by `etcbench report`; paper/results.tex includes it.\n");
        index += &drawn(None);
        for run in &self.runs {
            let name = &run.stored.name;
            index += &format!("\\run{{\\detokenize{{{name}}}}}\n");
            for table in run.tables.iter().filter(|table| table.table.rows.len() <= LONGEST_ON_PAPER) {
                index += &format!("\\input{{tables/{}}}\n", table.file_name(name));
            }
            index += &drawn(Some(name));
        }
        index += "\\run{audit}\n";
        for (name, _) in &self.audit {
            index += &format!("\\input{{tables/{}}}\n", audit_name(name));
        }
        index
    }
}

/// Returns the file name of an audit.
fn audit_name(published: &str) -> String {
    format!("audit-{published}")
}
