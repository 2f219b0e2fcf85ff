//! What filters say about where records are: smaller ranges of offsets.
//!
//! Only ranges that cannot hold an answer are left out; the filters themselves stay above the scan. Times help
//! from below alone: producers may give a later record an older timestamp.

use std::collections::BTreeSet;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use super::{Span, TimeOffsets};

/// Instants (milliseconds since 1970) that filters ask records not to be older than.
pub(super) fn instants(filters: &[Expr]) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    for filter in filters {
        collect(filter, &mut found);
    }
    found
}

/// The spans without offsets that no filter lets through.
pub(super) fn narrow(spans: &[Span], filters: &[Expr], times: &TimeOffsets) -> Vec<Span> {
    let narrowed = spans.iter().map(|span| {
        let around = Around {
            partition: span.partition,
            times,
        };
        let bounds = filters.iter().fold(Bounds::ALL, |bounds, filter| {
            bounds.and(around.bounds(filter))
        });
        Span {
            from: span.from.max(bounds.from),
            to: span.to.min(bounds.to),
            ..*span
        }
    });
    narrowed.filter(|span| !span.is_empty()).collect()
}

/// Half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    from: i64,
    to: i64,
}

impl Bounds {
    const ALL: Self = Self {
        from: i64::MIN,
        to: i64::MAX,
    };
    const NONE: Self = Self {
        from: i64::MAX,
        to: i64::MIN,
    };

    fn and(self, other: Self) -> Self {
        Self {
            from: self.from.max(other.from),
            to: self.to.min(other.to),
        }
    }

    /// The smallest that holds both.
    fn or(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self {
                from: self.from.min(other.from),
                to: self.to.max(other.to),
            },
        }
    }

    fn is_empty(self) -> bool {
        self.to <= self.from
    }

    fn when(is_so: bool) -> Self {
        if is_so { Self::ALL } else { Self::NONE }
    }
}

/// One partition, for which a filter is looked at.
struct Around<'a> {
    partition: i32,
    times: &'a TimeOffsets,
}

impl Around<'_> {
    fn bounds(&self, filter: &Expr) -> Bounds {
        match filter {
            Expr::Alias(alias) => self.bounds(&alias.expr),
            Expr::Literal(ScalarValue::Boolean(Some(is_so)), _) => Bounds::when(*is_so),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => self.bounds(left).and(self.bounds(right)),
                Operator::Or => self.bounds(left).or(self.bounds(right)),
                _ => comparison(left, *op, right).map_or(Bounds::ALL, |(column, op, value)| {
                    self.compared(column, op, value)
                }),
            },
            Expr::Between(Between {
                expr,
                negated: false,
                low,
                high,
            }) => {
                let from = comparison(expr, Operator::GtEq, low);
                let to = comparison(expr, Operator::LtEq, high);
                from.into_iter()
                    .chain(to)
                    .fold(Bounds::ALL, |bounds, (column, op, value)| {
                        bounds.and(self.compared(column, op, value))
                    })
            }
            Expr::InList(InList {
                expr,
                list,
                negated: false,
            }) => list.iter().fold(Bounds::NONE, |bounds, value| {
                let one = comparison(expr, Operator::Eq, value);
                bounds.or(one.map_or(Bounds::ALL, |(column, op, value)| {
                    self.compared(column, op, value)
                }))
            }),
            _ => Bounds::ALL,
        }
    }

    fn compared(&self, column: &str, op: Operator, value: &ScalarValue) -> Bounds {
        match column {
            "_partition" => {
                let Some(value) = whole(value) else {
                    return Bounds::ALL;
                };
                let own = i64::from(self.partition);
                match op {
                    Operator::Eq => Bounds::when(own == value),
                    Operator::NotEq => Bounds::when(own != value),
                    Operator::Lt => Bounds::when(own < value),
                    Operator::LtEq => Bounds::when(own <= value),
                    Operator::Gt => Bounds::when(own > value),
                    Operator::GtEq => Bounds::when(own >= value),
                    _ => Bounds::ALL,
                }
            }
            "_offset" => {
                let Some(value) = whole(value) else {
                    return Bounds::ALL;
                };
                let (at, after) = (value, value.saturating_add(1));
                let (from, to) = (Bounds::ALL.from, Bounds::ALL.to);
                match op {
                    Operator::Eq => Bounds {
                        from: at,
                        to: after,
                    },
                    Operator::Lt => Bounds { from, to: at },
                    Operator::LtEq => Bounds { from, to: after },
                    Operator::Gt => Bounds { from: after, to },
                    Operator::GtEq => Bounds { from: at, to },
                    _ => Bounds::ALL,
                }
            }
            "_timestamp" if is_lower(op) => {
                let offsets = millis(value).and_then(|instant| self.times.get(&instant));
                let Some(offsets) = offsets else {
                    return Bounds::ALL;
                };
                match offsets.get(&self.partition) {
                    Some(from) => Bounds {
                        from: *from,
                        to: Bounds::ALL.to,
                    },
                    None => Bounds::NONE,
                }
            }
            _ => Bounds::ALL,
        }
    }
}

fn is_lower(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq)
}

fn collect(filter: &Expr, found: &mut BTreeSet<i64>) {
    let mut add = |compared: Option<(&str, Operator, &ScalarValue)>| {
        if let Some(("_timestamp", op, value)) = compared
            && is_lower(op)
        {
            found.extend(millis(value));
        }
    };
    match filter {
        Expr::Alias(alias) => collect(&alias.expr, found),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => {
                collect(left, found);
                collect(right, found);
            }
            _ => add(comparison(left, *op, right)),
        },
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            ..
        }) => add(comparison(expr, Operator::GtEq, low)),
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            for value in list {
                add(comparison(expr, Operator::Eq, value));
            }
        }
        _ => {}
    }
}

/// A comparison of a column with a value, the column first.
fn comparison<'a>(
    left: &'a Expr,
    op: Operator,
    right: &'a Expr,
) -> Option<(&'a str, Operator, &'a ScalarValue)> {
    match (left, right) {
        (Expr::Column(column), Expr::Literal(value, _)) => Some((&column.name, op, value)),
        (Expr::Literal(value, _), Expr::Column(column)) => Some((&column.name, op.swap()?, value)),
        _ => None,
    }
}

fn whole(value: &ScalarValue) -> Option<i64> {
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(value)) => value,
        _ => None,
    }
}

/// Milliseconds, rounded down: Kafka knows no smaller unit.
fn millis(value: &ScalarValue) -> Option<i64> {
    let DataType::Timestamp(_, zone) = value.data_type() else {
        return None;
    };
    let micros = value
        .cast_to(&DataType::Timestamp(TimeUnit::Microsecond, zone))
        .ok()?;
    match micros {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(micros.div_euclid(1000)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::prelude::{col, lit};

    use super::*;

    const SPANS: [Span; 2] = [
        Span {
            partition: 0,
            from: 10,
            to: 100,
        },
        Span {
            partition: 1,
            from: 0,
            to: 50,
        },
    ];

    fn check(filter: Expr, expected: &[(i32, i64, i64)]) {
        let times = TimeOffsets::from([(5, BTreeMap::from([(0, 42)]))]);
        let found: Vec<_> = narrow(&SPANS, std::slice::from_ref(&filter), &times)
            .iter()
            .map(|span| (span.partition, span.from, span.to))
            .collect();
        assert_eq!(found, expected, "{filter}");
    }

    fn at(micros: i64) -> Expr {
        lit(ScalarValue::TimestampMicrosecond(
            Some(micros),
            Some("UTC".into()),
        ))
    }

    #[test]
    fn partitions_and_offsets_narrow_what_is_read() {
        check(col("_partition").eq(lit(1)), &[(1, 0, 50)]);
        check(lit(0_i64).lt(col("_partition")), &[(1, 0, 50)]);
        check(
            col("_offset").gt_eq(lit(20_i64)),
            &[(0, 20, 100), (1, 20, 50)],
        );
        check(col("_offset").lt(lit(10_i64)), &[(1, 0, 10)]);
        check(col("_offset").eq(lit(60_i64)), &[(0, 60, 61)]);
        check(
            col("_offset").between(lit(20_i64), lit(30_i64)),
            &[(0, 20, 31), (1, 20, 31)],
        );
        check(
            col("_offset").in_list(vec![lit(12_i64), lit(15_i64)], false),
            &[(0, 12, 16), (1, 12, 16)],
        );
        check(
            col("_partition").not_eq(lit(0)).and(lit(true)),
            &[(1, 0, 50)],
        );
        check(lit(false), &[]);
    }

    #[test]
    fn each_partition_has_its_own_part_of_a_disjunction() {
        let one = col("_partition")
            .eq(lit(0))
            .and(col("_offset").gt(lit(90_i64)));
        let other = col("_partition")
            .eq(lit(1))
            .and(col("_offset").lt_eq(lit(3_i64)));
        check(one.or(other), &[(0, 91, 100), (1, 0, 4)]);
    }

    #[test]
    fn what_says_nothing_about_places_leaves_them() {
        let all = [(0, 10, 100), (1, 0, 50)];
        check(col("a").eq(lit(1)), &all);
        check(col("_offset").eq(col("a")), &all);
        check(col("a").eq(lit(1)).or(col("_partition").eq(lit(0))), &all);
        check(col("_offset").in_list(vec![lit(12_i64)], true), &all);
        check(col("_timestamp").lt(at(5_000)), &all);
        check(!col("_partition").eq(lit(0)), &all);
    }

    #[test]
    fn times_narrow_from_below() {
        check(col("_timestamp").gt_eq(at(5_999)), &[(0, 42, 100)]);
        let all = [(0, 10, 100), (1, 0, 50)];
        check(col("_timestamp").gt_eq(at(7_000)), &all);
        let filters = [
            col("_timestamp").between(at(5_999), at(9_000)),
            at(-1).lt(col("_timestamp")).or(col("_timestamp").lt(at(3))),
        ];
        assert_eq!(instants(&filters), BTreeSet::from([-1, 5]));
    }
}
