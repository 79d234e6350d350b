//! Criteria as text.

use std::{str::FromStr, sync::Arc};

use super::{
    Affinity, Criteria, HealthLevel, InvalidCriteria, NodeId,
    capability::{TEXT_MAX_BYTES, is_word},
};

const FORMS: &str = "cap:NAME, cap:NAME@RANGE, kind=NAME, node=NAME, node!=NAME, label:KEY=VALUE, health>=LEVEL or \
                     resource:NAME>=NUMBER";
/// Longest criteria, in bytes.
const CRITERIA_MAX_BYTES: usize = 16 * 1_024;

impl FromStr for Criteria {
    type Err = InvalidCriteria;
    fn from_str(text: &str) -> Result<Self, InvalidCriteria> {
        if text.len() > CRITERIA_MAX_BYTES {
            let start: String = text.chars().take(20).collect();
            return Err(InvalidCriteria::new(&start, "at most 16 KiB"));
        }
        let mut criteria = Self::default();
        for part in text.split_whitespace() {
            criteria.take_in(part)?;
        }
        Ok(criteria)
    }
}

impl Criteria {
    fn take_in(&mut self, part: &str) -> Result<(), InvalidCriteria> {
        let error = || InvalidCriteria::new(part, FORMS);
        if let Some(need) = part.strip_prefix("cap:") {
            self.capabilities.push(need.parse()?);
        } else if let Some(label) = part.strip_prefix("label:") {
            let (key, value) = label.split_once('=').ok_or_else(error)?;
            let fits = is_word(key) && value.len() <= TEXT_MAX_BYTES;
            self.labels.insert(word_if(fits, key).ok_or_else(error)?, Arc::from(value));
        } else if let Some(resource) = part.strip_prefix("resource:") {
            let (name, least) = resource.split_once(">=").ok_or_else(error)?;
            let least = least.parse().map_err(|_| error())?;
            self.resources_min.insert(word_if(is_word(name), name).ok_or_else(error)?, least);
        } else if let Some(level) = part.strip_prefix("health>=") {
            self.health_min = Some(HealthLevel::named(level).ok_or_else(error)?);
        } else if let Some(kind) = part.strip_prefix("kind=") {
            self.kind = Some(word_if(is_word(kind), kind).ok_or_else(error)?);
        } else if let Some(node) = part.strip_prefix("node!=") {
            self.affinity = Some(Affinity::NotOnNode(node_of(node).ok_or_else(error)?));
        } else if let Some(node) = part.strip_prefix("node=") {
            self.affinity = Some(Affinity::OnNode(node_of(node).ok_or_else(error)?));
        } else {
            return Err(error());
        }
        Ok(())
    }
}

fn word_if(fits: bool, word: &str) -> Option<Arc<str>> {
    fits.then(|| Arc::from(word))
}

fn node_of(name: &str) -> Option<NodeId> {
    is_word(name).then(|| NodeId::from(name))
}
