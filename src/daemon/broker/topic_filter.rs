//! Which topics a member reads, by name.

use super::Subscription;

/// A [`Subscription`] ready to match.
#[derive(Clone, Debug)]
pub(super) struct TopicFilter {
    subscription: Subscription,
    patterns: Vec<regex::Regex>,
    excluded: Vec<regex::Regex>,
}

impl TopicFilter {
    pub(super) fn new(subscription: &Subscription) -> Result<Self, regex::Error> {
        let anchored = |patterns: &[String]| {
            let whole = patterns.iter().map(|pattern| format!("^(?:{pattern})$"));
            whole.map(|text| regex::Regex::new(&text)).collect::<Result<Vec<_>, _>>()
        };
        let patterns = anchored(&subscription.patterns)?;
        let excluded = anchored(&subscription.excluded)?;
        Ok(Self { subscription: subscription.clone(), patterns, excluded })
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        let named = self.subscription.topics.iter().any(|own| &**own == topic);
        let excluded = self.excluded.iter().any(|own| own.is_match(topic));
        named || (!excluded && self.patterns.iter().any(|pattern| pattern.is_match(topic)))
    }
}
