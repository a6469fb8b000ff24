//! Values that refer to each other in a circle. The parser gives them empty objects.

use std::collections::BTreeSet;

use super::origins::{Key, Origins};

impl Origins {
    /// Checks that no value needs itself.
    ///
    /// # Errors
    /// The keys of a circle, with the lines that set them.
    pub(super) fn check_cycles(&self) -> Result<(), String> {
        let mut done = BTreeSet::new();
        self.substituted.keys().try_for_each(|key| self.visit(key, &mut Vec::new(), &mut done))
    }

    fn visit<'k>(&'k self, key: &'k Key, path: &mut Vec<&'k Key>, done: &mut BTreeSet<&'k Key>) -> Result<(), String> {
        if let Some(start) = path.iter().position(|other| *other == key) {
            return Err(self.describe(&path[start..]));
        }
        if !done.contains(key) {
            path.push(key);
            for needed in &self.substituted[key] {
                // The value of a path is set by itself, by an object around it, or by its members.
                let is_part = |other: &&Key| needed.starts_with(other) || other.starts_with(needed);
                self.substituted.keys().filter(is_part).try_for_each(|other| self.visit(other, path, done))?;
            }
            path.pop();
            done.insert(key);
        }
        Ok(())
    }

    fn describe(&self, circle: &[&Key]) -> String {
        let set = |key: &&Key| match self.of(key) {
            Some(origin) => format!("`{}` ({origin})", key.join(".")),
            None => format!("`{}`", key.join(".")),
        };
        let keys = circle.iter().map(set).collect::<Vec<_>>().join(", ");
        format!("the values of {keys} refer to each other: give one of them a value without a substitution")
    }
}
