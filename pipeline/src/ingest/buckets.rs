//! Which shard a row is in.

use ledger::Split;

use super::config::Config;

/// Split and bucket of a shard.
pub type ShardKey = (Split, usize);

/// The shards of a split.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    pub count: usize,
    /// Shards that the rows of one repository are in.
    of_repository: usize,
}

impl Buckets {
    pub fn new(config: &Config) -> Self {
        let count = config.shards.max(1);
        Self { count, of_repository: config.shards_of_repository.unwrap_or(count).clamp(1, count) }
    }

    /// The shard of a row. It depends on the repository and the path only.
    pub fn of(self, repo: &str, path: &str) -> usize {
        let groups = self.count / self.of_repository;
        let group = if groups > 1 { index_of(repo, groups) } else { 0 };
        group * self.of_repository + index_of(&format!("{repo}\n{path}"), self.of_repository)
    }
}

/// A number below `count` by the digest of a text.
fn index_of(text: &str, count: usize) -> usize {
    let bytes: [u8; 8] = blake3::hash(text.as_bytes()).as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    usize::try_from(u64::from_le_bytes(bytes) % count as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shards(settings: &str, repositories: u32) -> Vec<BTreeSet<usize>> {
        let all = r#""max-line-bytes": 1, "max-reject-fraction": 1, "split-leaks": "refuse", "duplicates": null"#;
        let buckets = Buckets::new(&serde_json::from_str(&format!("{{ {settings}, {all} }}")).unwrap());
        let shards_of = |repository: u32| (0..200).map(|file| buckets.of(&format!("o/{repository}"), &format!("{file}.py"))).collect();
        (0..repositories).map(shards_of).collect()
    }

    #[test]
    fn the_files_of_a_repository_are_in_so_many_shards_next_to_each_other() {
        let found = shards(r#""shards": 13, "shards-of-repository": 4"#, 40);
        assert!(found.iter().all(|shards| shards.len() == 4 && shards.first().unwrap() % 4 == 0), "{found:?}");
        assert_eq!(found.into_iter().flatten().collect::<BTreeSet<_>>(), (0..12).collect());
    }

    #[test]
    fn without_a_number_the_files_of_a_repository_are_in_all_shards() {
        for settings in [r#""shards": 5"#, r#""shards": 5, "shards-of-repository": 9"#] {
            assert_eq!(shards(settings, 1), [(0..5).collect::<BTreeSet<_>>()]);
        }
        assert_eq!(shards(r#""shards": 0"#, 1), [BTreeSet::from([0])]);
    }
}
