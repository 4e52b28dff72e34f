//! Reports: stored records become tables (CSV, Markdown, LaTeX) and verdicts against tolerances.
//! Nothing here computes a metric.
