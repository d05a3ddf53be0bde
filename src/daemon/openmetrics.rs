//! OpenMetrics 1.0 text (prometheus/OpenMetrics, specification/OpenMetrics.md) from gathered
//! families: counters lose `_total` in their family name, and the text ends with `# EOF`.

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

/// The families as OpenMetrics 1.0 text.
#[must_use]
pub(super) fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        let counter = family.get_field_type() == MetricType::COUNTER;
        let name = family.name();
        let family_name = if counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let kind = if counter { "counter" } else { "gauge" };
        text.push_str(&format!("# TYPE {family_name} {kind}\n"));
        text.push_str(&format!("# HELP {family_name} {}\n", escaped(family.help())));
        for metric in family.get_metric() {
            let value = if counter {
                metric.get_counter().get_value()
            } else {
                metric.get_gauge().get_value()
            };
            sample(&mut text, name, metric.get_label(), value);
        }
    }
    text.push_str("# EOF\n");
    text
}

fn sample(text: &mut String, name: &str, labels: &[LabelPair], value: f64) {
    text.push_str(name);
    let pairs: Vec<String> = labels
        .iter()
        .map(|pair| format!("{}=\"{}\"", pair.name(), escaped(pair.value())))
        .collect();
    if !pairs.is_empty() {
        text.push_str(&format!("{{{}}}", pairs.join(",")));
    }
    text.push_str(&format!(" {value}\n"));
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}
