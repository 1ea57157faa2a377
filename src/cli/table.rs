//! Columns of text.

use crate::channels::plain_text::{one_line, shortened};

/// A longer cell is cut.
const CELL_CHARS_MAX: usize = 60;

/// Lays rows out in columns, two spaces apart. What stands in the cells may come from an agent: it is escaped.
pub(super) fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |row: &[String; N]| row.clone().map(|cell| shortened(&one_line(&cell), CELL_CHARS_MAX));
    let mut all = vec![heading.map(str::to_owned)];
    all.extend(rows.iter().map(shown));
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &all {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_cut_and_escaped() {
        let rows = [
            ["a".to_owned(), "x\x1b[2J".to_owned(), String::new()],
            ["long".to_owned(), "y".repeat(70), "z".to_owned()],
        ];
        let text = columns(["ID", "TEXT", "LAST"], &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "a     x\\u{1b}[2J");
        assert_eq!(lines[2], format!("long  {}…  z", "y".repeat(59)));
    }
}
