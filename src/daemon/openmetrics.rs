//! OpenMetrics 1.0 text (prometheus/OpenMetrics, specification/OpenMetrics.md) from gathered
//! families: counters lose `_total` in their family name, and the text ends with `# EOF`.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

/// The families as OpenMetrics 1.0 text.
#[must_use]
pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        let counter = family.get_field_type() == MetricType::COUNTER;
        let name = family.name();
        let family_name = if counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        text.push_str(&format!("# TYPE {family_name} {}\n", type_name(family.get_field_type())));
        text.push_str(&format!("# HELP {family_name} {}\n", escaped(family.help())));
        for metric in family.get_metric() {
            samples(&mut text, name, metric, family.get_field_type());
        }
    }
    text.push_str("# EOF\n");
    text
}

fn samples(text: &mut String, name: &str, metric: &Metric, kind: MetricType) {
    let labels = metric.get_label();
    match kind {
        MetricType::COUNTER => sample(text, name, labels, None, metric.get_counter().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let bucket = format!("{name}_bucket");
            for bound in histogram.get_bucket() {
                let count = bound.cumulative_count();
                sample(text, &bucket, labels, Some(&bound.upper_bound().to_string()), count as f64);
            }
            let count = histogram.get_sample_count() as f64;
            sample(text, &bucket, labels, Some("+Inf"), count);
            sample(text, &format!("{name}_count"), labels, None, count);
            sample(text, &format!("{name}_sum"), labels, None, histogram.get_sample_sum());
        }
        _ => sample(text, name, labels, None, metric.get_gauge().get_value()),
    }
}

fn sample(text: &mut String, name: &str, labels: &[LabelPair], bound: Option<&str>, value: f64) {
    text.push_str(name);
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|pair| format!("{}=\"{}\"", pair.name(), escaped(pair.value())))
        .collect();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if !pairs.is_empty() {
        text.push_str(&format!("{{{}}}", pairs.join(",")));
    }
    text.push_str(&format!(" {value}\n"));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

const fn type_name(kind: MetricType) -> &'static str {
    match kind {
        MetricType::COUNTER => "counter",
        MetricType::HISTOGRAM => "histogram",
        _ => "gauge",
    }
}
