//! What the demo asks, in a fixed order: how much there is, then the shipped questions
//! (`examples/beatlytica/questions.sql`), with the shipped `dim_users` made before the first that
//! needs it.

const SHIPPED: &str = include_str!("../../../examples/beatlytica/questions.sql");
const DIM_USERS: &str = include_str!("../../../examples/beatlytica/transform/dim_users.sql");

const COUNTS: &str = r#"SELECT 'listen_events' AS "table", count(*) AS events, count(DISTINCT nullif("userId", '')) AS users,
       min(ts) AS first_event, max(ts) AS last_event FROM listen_events
UNION ALL
SELECT 'page_view_events', count(*), count(DISTINCT nullif("userId", '')), min(ts), max(ts) FROM page_view_events
UNION ALL
SELECT 'auth_events', count(*), count(DISTINCT nullif("userId", '')), min(ts), max(ts) FROM auth_events
ORDER BY events DESC"#;

/// A titled question, or a step that makes a table for the next ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) title: String,
    pub(crate) sql: String,
}

/// All of them, in order.
pub(crate) fn questions() -> Vec<Question> {
    let mut all = vec![Question {
        title: "What is in the lake".to_owned(),
        sql: COUNTS.to_owned(),
    }];
    for question in parse(SHIPPED) {
        let is_first_of_users = question.sql.contains("dim_users")
            && !all.iter().any(|before| before.sql.contains("dim_users"));
        if is_first_of_users {
            let title = "dim_users: every user with the history of their level (slowly changing dimension, type 2)";
            all.push(Question {
                title: title.to_owned(),
                sql: DIM_USERS.trim().to_owned(),
            });
        }
        all.push(question);
    }
    all
}

/// Blocks between blank lines, each a comment line, which is its title, and a statement. A block of
/// comments alone is about the file.
fn parse(text: &str) -> Vec<Question> {
    text.split("\n\n")
        .filter_map(|block| {
            let (title, sql) = block.trim().split_once('\n')?;
            let title = title.strip_prefix("--")?.trim();
            let sql = sql.trim().trim_end_matches(';');
            (!sql.lines().all(|line| line.starts_with("--"))).then(|| Question {
                title: title.to_owned(),
                sql: sql.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_the_comment_above_its_statement() {
        let text =
            "-- About all of it.\n-- Really.\n\n-- Top\nSELECT 1\nLIMIT 1;\n\n-- Next\nSELECT 2;\n";
        let question = |title: &str, sql: &str| Question {
            title: title.to_owned(),
            sql: sql.to_owned(),
        };
        assert_eq!(
            parse(text),
            [
                question("Top", "SELECT 1\nLIMIT 1"),
                question("Next", "SELECT 2")
            ]
        );
    }

    #[test]
    fn users_are_made_before_they_are_asked() {
        let questions = questions();
        let position = |what: &str| {
            questions
                .iter()
                .position(|question| question.sql.contains(what))
                .unwrap()
        };
        let made = position("CREATE TABLE dim_users");
        assert_eq!(position("dim_users"), made);
        let asked = questions
            .iter()
            .filter(|question| question.sql.contains("FROM dim_users"))
            .count();
        assert!(asked >= 2, "{questions:?}");
        assert!(questions.len() >= 6, "{questions:?}");
    }
}
