//! Small tables of text, such as the list of streams: a header and left- or right-aligned columns.

/// Rows of text under a header.
pub(crate) struct Columns {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Columns {
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self {
            header: header.to_vec(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.header.len(), String::new());
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Header and rows, two blanks between columns, columns of numbers to the right.
    pub(crate) fn render(&self) -> String {
        let columns: Vec<(usize, bool)> = (0..self.header.len())
            .map(|column| self.shape(column))
            .collect();
        let mut text = line(self.header.iter().copied(), &columns);
        for row in &self.rows {
            text.push_str(&line(row.iter().map(String::as_str), &columns));
        }
        text
    }

    /// Width, and whether every cell is a number or absent (`-`).
    fn shape(&self, column: usize) -> (usize, bool) {
        let cells = || self.rows.iter().map(|row| row[column].as_str());
        let header = self.header[column].chars().count();
        let width = cells()
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(header);
        let numbers = cells().all(|cell| cell == "-" || cell.parse::<f64>().is_ok());
        (width, numbers && !self.rows.is_empty())
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, columns: &[(usize, bool)]) -> String {
    let cells: Vec<String> = cells
        .zip(columns)
        .map(|(cell, &(width, right))| {
            if right {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    format!("{}\n", cells.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_text_to_the_left() {
        let mut columns = Columns::new(&["STREAM", "LAG"]);
        columns.row(["beatlytica".to_owned(), "12".to_owned()]);
        columns.row(["x".to_owned(), "-".to_owned()]);
        assert_eq!(
            columns.render(),
            "STREAM      LAG\nbeatlytica   12\nx             -\n"
        );
    }

    #[test]
    fn without_rows_there_is_a_header() {
        assert_eq!(Columns::new(&["A", "B"]).render(), "A  B\n");
    }
}
