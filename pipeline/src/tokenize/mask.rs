//! Removes the name of a function from its code, for the variant whose query is the name.

use ledger::{CodeText, words};

/// The code with the function's name replaced by `mask`. `full` is the text that is encoded, `code_words` are the words of
/// the code.
pub fn mask_name(kind: CodeText, mask: &str, func_name: &str, code_words: &str, full: &str) -> String {
    let own = func_name.rsplit(['.', ':']).next().unwrap_or(func_name);
    match kind {
        CodeText::Words => format!("{mask} {}", mask_words(mask, own, code_words)),
        CodeText::Subtokens | CodeText::Structure => mask_words(mask, own, full),
        CodeText::Tokens | CodeText::Ast => {
            full.split(' ').map(|token| if token == own { mask } else { token }).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Replaces the words of a name wherever they follow each other.
fn mask_words(mask: &str, name: &str, text: &str) -> String {
    let mut words = Vec::new();
    words::subtokens(name, &mut words);
    let all: Vec<&str> = text.split(' ').collect();
    let mut masked = Vec::with_capacity(all.len());
    let mut index = 0;
    while index < all.len() {
        let is_name = !words.is_empty() && all[index..].len() >= words.len() && words.iter().eq(&all[index..index + words.len()]);
        masked.push(if is_name { mask } else { all[index] });
        index += if is_name { words.len() } else { 1 };
    }
    masked.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_masked_in_every_kind_of_text() {
        let masked = mask_name(CodeText::Words, "<unk>", "Loader.read_jsonl", "def read jsonl path return read jsonl read jsonl", "");
        assert_eq!(masked, "<unk> def <unk> path return <unk> <unk>");
        let masked = mask_name(CodeText::Tokens, "<unk>", "Loader.read", "", "def read ( path )");
        assert_eq!(masked, "def <unk> ( path )");
        let masked = mask_name(CodeText::Subtokens, "[UNK]", "Loader.readJsonl", "", "def read jsonl </id> ( read )");
        assert_eq!(masked, "def [UNK] </id> ( read )");
    }
}
