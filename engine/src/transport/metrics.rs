//! Operator metrics on the wire. Kinds that the wire does not have travel as counts of their name, so
//! that `EXPLAIN ANALYZE` shows them; points in time are dropped, they mean nothing on another machine.

use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_plan::metrics::{
    Count, Gauge, Metric, MetricValue, MetricsSet, PruningMetrics, RatioMetrics, Time,
};
use drumline_proto::v1 as pb;
use drumline_proto::v1::MetricKind;

pub(super) fn encode_set(set: &MetricsSet) -> pb::MetricSet {
    pb::MetricSet {
        metrics: set.iter().filter_map(|metric| encode(metric)).collect(),
    }
}

pub(super) fn decode_set(set: pb::MetricSet) -> MetricsSet {
    let mut decoded = MetricsSet::new();
    for metric in set.metrics {
        let partition = metric.partition.map(|partition| partition as usize);
        decoded.push(Arc::new(Metric::new(decode(metric), partition)));
    }
    decoded
}

fn encode(metric: &Metric) -> Option<pb::Metric> {
    let value = metric.value();
    let plain = |kind| (kind, value.as_usize(), 0);
    let (kind, first, other) = match value {
        MetricValue::StartTimestamp(_) | MetricValue::EndTimestamp(_) => return None,
        MetricValue::OutputRows(_) => plain(MetricKind::OutputRows),
        MetricValue::OutputBytes(_) => plain(MetricKind::OutputBytes),
        MetricValue::OutputBatches(_) => plain(MetricKind::OutputBatches),
        MetricValue::ElapsedCompute(_) => plain(MetricKind::ElapsedCompute),
        MetricValue::Time { .. } => plain(MetricKind::Time),
        MetricValue::SpillCount(_) => plain(MetricKind::SpillCount),
        MetricValue::SpilledBytes(_) => plain(MetricKind::SpilledBytes),
        MetricValue::SpilledRows(_) => plain(MetricKind::SpilledRows),
        MetricValue::Gauge { .. } | MetricValue::CurrentMemoryUsage(_) => plain(MetricKind::Gauge),
        MetricValue::PeakMemoryUsage { .. } => plain(MetricKind::PeakMemory),
        MetricValue::PruningMetrics {
            pruning_metrics, ..
        } => (
            MetricKind::Pruning,
            pruning_metrics.matched(),
            pruning_metrics.pruned(),
        ),
        MetricValue::Ratio { ratio_metrics, .. } => (
            MetricKind::Ratio,
            ratio_metrics.part(),
            ratio_metrics.total(),
        ),
        MetricValue::Count { .. } | MetricValue::Custom { .. } => plain(MetricKind::Count),
    };
    Some(pb::Metric {
        name: value.name().to_owned(),
        partition: metric.partition().map(|partition| partition as u64),
        kind: kind.into(),
        value: first as u64,
        other: other as u64,
    })
}

fn decode(metric: pb::Metric) -> MetricValue {
    let kind = metric.kind();
    let value = metric.value as usize;
    let name = metric.name.into();
    match kind {
        MetricKind::Count => MetricValue::Count {
            name,
            count: count(value),
        },
        MetricKind::OutputRows => MetricValue::OutputRows(count(value)),
        MetricKind::OutputBytes => MetricValue::OutputBytes(count(value)),
        MetricKind::OutputBatches => MetricValue::OutputBatches(count(value)),
        MetricKind::ElapsedCompute => MetricValue::ElapsedCompute(time(metric.value)),
        MetricKind::Time => MetricValue::Time {
            name,
            time: time(metric.value),
        },
        MetricKind::SpillCount => MetricValue::SpillCount(count(value)),
        MetricKind::SpilledBytes => MetricValue::SpilledBytes(count(value)),
        MetricKind::SpilledRows => MetricValue::SpilledRows(count(value)),
        MetricKind::Gauge => MetricValue::Gauge {
            name,
            gauge: gauge(value),
        },
        MetricKind::PeakMemory => MetricValue::PeakMemoryUsage {
            name,
            gauge: gauge(value),
        },
        MetricKind::Pruning => {
            let pruning_metrics = PruningMetrics::new();
            pruning_metrics.add_matched(value);
            pruning_metrics.add_pruned(metric.other as usize);
            MetricValue::PruningMetrics {
                name,
                pruning_metrics,
            }
        }
        MetricKind::Ratio => {
            let ratio_metrics = RatioMetrics::new();
            ratio_metrics.add_part(value);
            ratio_metrics.add_total(metric.other as usize);
            MetricValue::Ratio {
                name,
                ratio_metrics,
            }
        }
    }
}

fn count(value: usize) -> Count {
    let count = Count::new();
    count.add(value);
    count
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::new();
    gauge.set(value);
    gauge
}

fn time(nanos: u64) -> Time {
    let time = Time::new();
    time.add_duration(Duration::from_nanos(nanos));
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_arrive_as_they_were_sent() {
        let pruning_metrics = PruningMetrics::new();
        pruning_metrics.add_matched(3);
        pruning_metrics.add_pruned(4);
        let values = [
            MetricValue::OutputRows(count(7)),
            MetricValue::ElapsedCompute(time(11)),
            MetricValue::SpilledBytes(count(12)),
            MetricValue::Count {
                name: "hits".into(),
                count: count(13),
            },
            MetricValue::Gauge {
                name: "depth".into(),
                gauge: gauge(14),
            },
            MetricValue::PruningMetrics {
                name: "row_groups".into(),
                pruning_metrics,
            },
        ];
        let mut sent = MetricsSet::new();
        for (partition, value) in values.iter().enumerate() {
            sent.push(Arc::new(Metric::new(value.clone(), Some(partition))));
        }
        let got = decode_set(encode_set(&sent));
        for ((partition, value), metric) in values.iter().enumerate().zip(got.iter()) {
            assert_eq!(metric.partition(), Some(partition));
            assert_eq!(metric.value().to_string(), value.to_string());
            assert_eq!(metric.value().name(), value.name());
        }
        assert_eq!(got.iter().count(), values.len());
    }
}
