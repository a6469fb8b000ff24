//! `schema.md` of a bundle. The page is part of a recorded artifact: its text only changes together with the stage's revision.

use bundle::{
    BundleManifest,
    fusion::{FEATURES_EXPLAINED, Fusion},
    lexical::{FieldSettings, Scoring},
    reranking::FEATURES_EXPLAINED as RERANKING_FEATURES,
};
use ledger::TokenPooling;

fn field_line(field: &FieldSettings) -> String {
    format!("   | `{}` | {} | {} | {:.3} |\n", field.name, field.weight, field.b, field.mean_length())
}

/// Classes of queries, for `schema.md`.
const RERANKING: &str = "\
A query is a `symbol` if it has no space. It is a `question` if it has more than 4 tokens, ends with `?`, or starts with how, what, where, which,
why, when, who, does, do, is, are, can, should or find. Otherwise it is `keywords`.
";

/// `schema.md`: how to read the bundle without this program.
pub fn schema_page(manifest: &BundleManifest) -> String {
    let fields: String = match &manifest.lexical.scoring {
        Scoring::Bm25f(bm25f) => bm25f.fields.iter().map(field_line).collect(),
        Scoring::Sum(_) => String::new(),
    };
    let fusion = match &manifest.fusion {
        Fusion::MinMax { weight } => format!(
            "scale each list to 0..1 over itself, `(s - min) / (max - min)` (1 if all are equal); a row's score is `{:.4} * lexical + {weight:.4} * vector`, 0 for a list that lacks it",
            1.0 - weight
        ),
        Fusion::Sum { weight } => format!(
            "of every row of either list, `{:.4} * lexical / (largest lexical) + {weight:.4} * cosine`, each as it is, in the list or not",
            1.0 - weight
        ),
        Fusion::Learned { .. } => {
            "of every row of either list, the sum of the features below by their weights in `fusion.json`; its BM25 (0 without a term) and cosine are its own, in that side's list or not".to_owned()
        }
        Fusion::Rrf { k } => format!("a row's score is the sum over both lists of `1 / ({k} + rank)`, ranks from 1"),
    };
    let form = &manifest.encoder.graph;
    let types = if form.token_types { ", `token_type_ids` (zeros)" } else { "" };
    let pooled = match form.pooling {
        None => "f32, unit vectors",
        Some(TokenPooling::Mean) => "f32 [batch, length, dimension]; take the mean over the mask, and make its length 1",
        Some(TokenPooling::Cls) => "f32 [batch, length, dimension]; take the first token's, and make its length 1",
    };
    let graphs = match &manifest.vectors.hnsw {
        None => String::new(),
        Some(graphs) => format!(
            "; graphs of near neighbours by {} (i8, inner product of `round(x * {})`), {} files that manifest.json names, keys are {}, recall@10 {:.4}",
            graphs.engine,
            graphs.scale,
            graphs.files.len(),
            if graphs.nodes.is_some() { "nodes, whose rows `vectors/hnsw-rows.npy` has" } else { "rows" },
            graphs.recall_at_10
        ),
    };
    let stop_words = match &manifest.lexical.stop_words {
        words if words.is_empty() => String::new(),
        words => {
            let words = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
            format!(" (without {words}, unless there are no others)")
        }
    };
    format!(
        r#"# Bundle format {format}

{rows} functions. Row numbers join all files: row r is the r-th row of `docs.parquet` and the r-th row of the matrices.
`document-rows.npy`, u32 [{documents}], has the row of each document of `tantivy/`: segments in the order of `meta.json`, their documents in
order. 4294967295: the document has no row (its function was changed or deleted since); leave it out of results.

- `docs.parquet`: id, split, language, repo, path, func_name, line_start, line_end, url, licence, summary, docstring, code, duplicate_of, alias_of, content.
- `tombstones.parquet`: ids that were retracted; leave them out of results. It changes, by rename, while the bundle is served.
- `tantivy/`: {engine}, the text fields below and `any` with the words of all of them (tokenizer `{tokenizer}`, words joined by spaces),
  filters `language`, `split`, `id`, `repo`, `path`, exact names `symbol`.
- `lengths.npy`: u8 [{rows}, {field_count}], the field norms of the text fields, in the order below. A norm below 24 is the number of words; a larger one,
  less 24, has 3 bits of mantissa `m` and an exponent `e` above: 24 + m if e is 0, else 24 + (8 + m) * 2^(e - 1).
- `counts.npy`: u32 [{counts}], the counts of step 1 as f32, computed for faster searches. One for each posting of `any`: segments in order, terms
  in the order of their bytes, documents in order. The lowest four bits are not part of the number: they tell whether the name (1), path (2), documentation
  (4) or code (8) has the term. `count-starts.npy`: u64, where the counts of each term start, and the end of the last ones.
- `groups.npy`: u32 [{rows}, 4], the groups of a row: file, repository, similar (near-duplicates), alias (equal code and documentation). The
  number of a group is its first row. `aliases.npy`: u32 [{aliases}, 2], group and row of every row that has aliases.
- `names.npy`: u32 [{names}], CRC-32 checksums of the names of a row; `name-ends.npy`: u32 [{rows}, 4], where each part ends (it starts where
  the one before ends): function name, classes, file name up to its first dot, folders. A part has the checksums of its terms, then that of
  its words joined. `kinds.npy`: u8 [{rows}], bits: 1 test, 2 example, 4 generated, 8 vendored, 16 private.
- `vectors/`: `embeddings.npy` f32 [{rows}, {dimension}] of unit vectors, `embeddings.i8.npy` and `scales.npy` (x = i8 * scale){graphs}.
- `encoder/`: {query_graph} for queries, {code_graph} for code (`input_ids`, `attention_mask`{types} i64 [batch, length] ->
  `{output}` {pooled}), `tokenizer.json`, `encoder.json`.

## Words
A query is split as the fields were: at everything that is neither letter nor digit, at camelCase and HTTPServer humps,
between letters and digits; lower case. For ASCII: `[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+`. Other text is first brought to NFKC; Latin
letters lose their marks, and ß æ œ ø ł đ ı become ss ae oe o l d i. A run of three or more Chinese, Japanese or Korean letters is
split into its overlapping pairs. Where one language is searched, its name is left out of the query, unless nothing else is asked.

## Search
1. Lexical: what the tokenizer `{tokenizer}` makes of the words{stop_words}, each distinct term. Its count in a row is the sum over the text fields of
   `weight * tf / (1 - b + b * length / mean length)`; the score is the sum over terms of `idf * (k1 + 1) * count / (k1 + count)`, k1 {k1},
   `idf = ln(1 + (N - n + 0.5) / (n + 0.5))`, N the documents, n those with the term in `any`. The best {candidates}.

   | text field | weight | b | mean length of the documents where it is not empty |
   |---|---|---|---|
{fields}
2. Vector: ids = ids of {query_prefix:?} + tokenizer(words joined by spaces) + {query_suffix:?}, the words cut so that there are
   at most {query_tokens}; the inner product of the graph's output with every row. The best {candidates}.
3. Fusion: {fusion}. Equal scores by row.
4. Reranking, of the fused list: {reranking}.
5. Diversity, of the reranked list: a row's score, scaled to 0..1 over the list, less a penalty for each better row of the same group:
   {penalties}; the one for `file` is multiplied by the concentration, which is the sum over repositories of the square of their share of the
   list. The rows are ordered by this, equal ones as before.
6. Exact names, of the lexical and of the fused list: where the query is one word, and its letters and digits in lower case are a `symbol`
   (or are one after a `/`), the rows with this symbol come first.
7. Aliases: all lists have only the best row of each group of aliases; where the vector list has another one than the lexical list, it
   takes the lexical list's row.
{features}{reranking_features}"#,
        documents = manifest.lexical.documents.unwrap_or(manifest.rows),
        features = match &manifest.fusion {
            Fusion::Learned { .. } => format!("\n## Features\n{FEATURES_EXPLAINED}"),
            _ => String::new(),
        },
        reranking = match &manifest.reranker {
            Some(_) => "the score is the sum of weight times feature; weights are those of `all` plus those of the class (`reranker.json`)",
            None => "none",
        },
        reranking_features = match &manifest.reranker {
            Some(_) => format!("\n## Features of reranking\n{RERANKING}{RERANKING_FEATURES}"),
            None => String::new(),
        },
        counts = manifest.lexical.counts.unwrap_or_default(),
        names = manifest.names.unwrap_or_default(),
        format = manifest.format,
        rows = manifest.rows,
        engine = manifest.lexical.engine,
        tokenizer = manifest.lexical.tokenizer,
        k1 = manifest.lexical.scoring.k1(),
        field_count = manifest.lexical.scoring.fields().len(),
        dimension = manifest.vectors.dimension,
        candidates = manifest.candidates,
        aliases = manifest.aliases.unwrap_or_default(),
        penalties = manifest.diversity.unwrap_or_default().penalties().map(|(name, _, penalty)| format!("{name} {penalty}")).join(", "),
        output = form.output,
        query_graph = manifest.encoder.query_graph,
        code_graph = manifest.encoder.code_graph,
        query_prefix = manifest.encoder.query_prefix,
        query_suffix = manifest.encoder.query_suffix,
        query_tokens = manifest.encoder.query_tokens,
    )
}
