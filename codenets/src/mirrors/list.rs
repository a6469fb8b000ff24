//! The list of remote repositories.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

/// A remote repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Remote {
    pub url: String,
    /// Name of the folder of its mirror: `name.git`.
    pub folder: String,
}

/// Reads a list: an address a line, then the name of the mirror where it is not the last part of the address. `#` starts a comment.
pub fn read(path: &Path) -> Result<Vec<Remote>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading nightly.fetch.list = {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Remote>> {
    let mut remotes: Vec<Remote> = Vec::new();
    let mut lines = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(url) = words.next() else { continue };
        let name = words.next();
        ensure!(words.next().is_none(), "line {number}: expected an address and a name, found more");
        let remote = remote(url, name).with_context(|| format!("line {number}"))?;
        if let Some(first) = lines.insert(remote.folder.to_lowercase(), number) {
            bail!("lines {first} and {number} have one name ({}): write another name after the address", remote.folder);
        }
        remotes.push(remote);
    }
    ensure!(!remotes.is_empty(), "it has no address: write one a line");
    Ok(remotes)
}

const ADDRESSES: &str = "the address must start with https://, ssh:// or file://, or be user@host:path";

fn remote(url: &str, name: Option<&str>) -> Result<Remote> {
    let (host, path, is_ssh) = match url.split_once("://") {
        Some((scheme @ ("https" | "ssh" | "file"), rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            (host, path, scheme == "ssh")
        }
        // `user@host:path`
        None if !url.starts_with('-') => match url.split_once(':').filter(|(host, _)| host.contains('@') && !host.contains('/')) {
            Some((host, path)) => (host, path, true),
            None => bail!(ADDRESSES),
        },
        _ => bail!(ADDRESSES),
    };
    ensure!(!path.trim_matches('/').is_empty(), "the address names no repository");
    let (user, server) = host.rsplit_once('@').unwrap_or(("", host));
    // ssh takes a host that starts with a hyphen as an option.
    ensure!(!server.starts_with('-') && !user.starts_with('-'), "the name of the host starts with a hyphen");
    ensure!(
        !user.contains(':') && (is_ssh || user.is_empty()),
        "the address contains a user or a password: use a credential helper of git, or ssh"
    );
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = name.unwrap_or(last).trim_end_matches(".git");
    let is_plain = |letter: char| letter.is_alphanumeric() || "._-+".contains(letter);
    ensure!(
        name.chars().all(is_plain) && name.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_'),
        "{name:?} is no name of a folder: write a name of letters, digits, `.`, `_`, `+` and `-` after the address"
    );
    Ok(Remote { url: url.to_owned(), folder: format!("{name}.git") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_addresses_with_names() {
        let text = "# of the team\nhttps://example.org/team/one.git\n\nssh://git@example.org:22/team/two/ second # why\ngit@example.org:team/three.git\nfile:///srv/four\n";
        let found: Vec<(String, String)> = parse(text).unwrap().into_iter().map(|remote| (remote.url, remote.folder)).collect();
        let expected = [
            ("https://example.org/team/one.git", "one.git"),
            ("ssh://git@example.org:22/team/two/", "second.git"),
            ("git@example.org:team/three.git", "three.git"),
            ("file:///srv/four", "four.git"),
        ];
        assert_eq!(found, expected.map(|(url, folder)| (url.to_owned(), folder.to_owned())));
    }

    #[test]
    fn dangerous_and_wrong_lines_are_refused_with_their_number() {
        for (line, reason) in [
            ("ext::sh", "must start with"),
            ("/srv/one", "must start with"),
            ("http://example.org/one", "must start with"),
            ("--upload-pack=touch@x:y", "must start with"),
            ("ssh://-oProxyCommand=touch/one", "starts with a hyphen"),
            ("ssh://git@-oProxyCommand=touch/one", "starts with a hyphen"),
            ("https://user:secret@example.org/one", "a user or a password"),
            ("https://token@example.org/one", "a user or a password"),
            ("ssh://git:secret@example.org/one", "a user or a password"),
            ("https://example.org/one ../two", "no name of a folder"),
            ("https://example.org/one .two", "no name of a folder"),
            ("https://example.org/", "names no repository"),
            ("https://example.org/one two three", "found more"),
        ] {
            let error = format!("{:#}", parse(&format!("\n{line}")).unwrap_err());
            assert!(error.contains(reason) && error.contains("line 2") && !error.contains("secret@"), "{line}: {error}");
        }
        let error = parse("https://example.org/a/one\nhttps://example.org/b/One.git").unwrap_err().to_string();
        assert!(error.contains("lines 1 and 2 have one name"), "{error}");
        assert!(parse("# nothing").unwrap_err().to_string().contains("no address"));
    }
}
