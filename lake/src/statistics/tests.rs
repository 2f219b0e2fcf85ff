use super::*;

#[test]
fn bounds_are_of_years_that_every_reader_knows() {
    let date = |days: i32| to_json(&ScalarValue::Date32(Some(days)), false);
    let moment = |micros: i64| {
        let zone = Some("UTC".into());
        to_json(&ScalarValue::TimestampMicrosecond(Some(micros), zone), true)
    };
    const DAY: i64 = 86_400_000_000;
    let last = 2_932_896;
    assert_eq!(date(0), Some(json!("1970-01-01")));
    assert_eq!(date(last), Some(json!("9999-12-31")));
    assert_eq!(date(-719_162), Some(json!("0001-01-01")));
    assert_eq!(moment(1), Some(json!("1970-01-01T00:00:00.001Z")));
    for days in [last + 1, -719_163, i32::MAX, i32::MIN] {
        assert_eq!(date(days), None, "{days}");
    }
    for micros in [
        (i64::from(last) + 1) * DAY,
        -719_163 * DAY,
        i64::MAX,
        i64::MIN,
    ] {
        assert_eq!(moment(micros), None, "{micros}");
    }
}
