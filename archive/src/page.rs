//! The lineage as a page (`lineage.html`) and as a drawing (`lineage.svg`). Both load nothing and run no script.

use askama::Template;
use ledger::{ArtifactId, Manifest, rfc3339};

use crate::lineage::{Lineage, commit};

/// Size of a box, gaps and margin, in pixels.
const WIDTH: usize = 190;
const HEIGHT: usize = 66;
const GAP_X: usize = 46;
const GAP_Y: usize = 22;
const MARGIN: usize = 16;

#[derive(Template)]
#[template(path = "lineage.svg")]
struct Drawing {
    width: usize,
    height: usize,
    node_width: usize,
    node_height: usize,
    edges: Vec<Edge>,
    nodes: Vec<Node>,
}

/// One artifact of the drawing.
struct Node {
    x: usize,
    y: usize,
    is_target: bool,
    digest: String,
    lines: [String; 3],
}

/// One input of an artifact, from the right side of its box to the left side of the artifact's box.
struct Edge {
    x1: usize,
    y1: usize,
    x2: usize,
    y2: usize,
}

impl Edge {
    /// The x of both control points of the curve.
    fn middle(&self) -> usize {
        (self.x1 + self.x2) / 2
    }
}

#[derive(Template)]
#[template(path = "lineage.html")]
struct Page<'a> {
    kind: &'a str,
    key: &'a str,
    /// The drawing; its template has escaped the values.
    svg: String,
    artifacts: Vec<ArtifactView<'a>>,
}

struct ArtifactView<'a> {
    kind: &'a str,
    key: &'a str,
    stage: &'a str,
    revision: u32,
    finished: String,
    is_target: bool,
    facts: Vec<(String, String)>,
    config: String,
    files: Vec<FileView>,
}

struct FileView {
    digest: String,
    path: String,
    bytes: u64,
}

/// An artifact with the position of its box.
struct Placed<'a> {
    id: &'a ArtifactId,
    manifest: &'a Manifest,
    x: usize,
    y: usize,
}

/// Columns by the longest path from the raw files, rows in the order of keys.
fn place(lineage: &Lineage) -> Vec<Placed<'_>> {
    let mut filled = Vec::new();
    let mut ids: Vec<_> = lineage.artifacts.iter().map(|(id, manifest)| (lineage.depth(id), id, manifest)).collect();
    ids.sort_by_key(|(depth, id, _)| (*depth, (*id).clone()));
    ids.into_iter()
        .map(|(depth, id, manifest)| {
            filled.resize(filled.len().max(depth + 1), 0usize);
            let row = filled[depth];
            filled[depth] += 1;
            // Every second column is lower, so that an edge across it stays visible.
            let lower = if depth % 2 == 1 { (HEIGHT + GAP_Y) / 2 } else { 0 };
            Placed { id, manifest, x: MARGIN + depth * (WIDTH + GAP_X), y: MARGIN + row * (HEIGHT + GAP_Y) + lower }
        })
        .collect()
}

/// The lineage as SVG, raw files on the left.
pub fn svg(lineage: &Lineage) -> String {
    let placed = place(lineage);
    let edges = placed.iter().flat_map(|to| {
        let inputs = lineage.inputs(to.manifest).0;
        let from = inputs.into_iter().filter_map(|input| placed.iter().find(|one| *one.id == input));
        from.map(|from| Edge { x1: from.x + WIDTH, y1: from.y + HEIGHT / 2, x2: to.x, y2: to.y + HEIGHT / 2 }).collect::<Vec<_>>()
    });
    render(&Drawing {
        width: placed.iter().map(|one| one.x + WIDTH).max().unwrap_or_default() + MARGIN,
        height: placed.iter().map(|one| one.y + HEIGHT).max().unwrap_or_default() + MARGIN,
        node_width: WIDTH,
        node_height: HEIGHT,
        edges: edges.collect(),
        nodes: placed.iter().map(|one| node(one, *one.id == lineage.target)).collect(),
    })
}

fn node(placed: &Placed<'_>, is_target: bool) -> Node {
    let Placed { id, manifest, x, y } = *placed;
    Node {
        x,
        y,
        is_target,
        digest: digest(manifest),
        lines: [
            format!("{} {}", id.kind, id.key),
            format!("{} r{}, {} rows", manifest.stage, manifest.revision, manifest.rows.written),
            format!("{:.1} MiB, {:.1} s", manifest.bytes_out() as f64 / (1 << 20) as f64, manifest.host.wall_s),
        ],
    }
}

/// The drawing, and below it everything that is recorded about each artifact, the target first.
pub fn html(lineage: &Lineage) -> String {
    let mut placed = place(lineage);
    placed.reverse();
    render(&Page {
        kind: &lineage.target.kind,
        key: &lineage.target.key,
        svg: svg(lineage),
        artifacts: placed.iter().map(|one| artifact(one.id, one.manifest, *one.id == lineage.target)).collect(),
    })
}

fn artifact<'a>(id: &'a ArtifactId, manifest: &'a Manifest, is_target: bool) -> ArtifactView<'a> {
    let host = &manifest.host;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut facts = vec![
        fact("bytes", digest(manifest)),
        fact("commit", commit(manifest)),
        fact("tool", format!("{}, {} {}, {} threads", host.tool, host.os, host.arch, host.threads)),
        fact("rows", format!("{} in, {} out, {} rejected", manifest.rows.read, manifest.rows.written, manifest.rows.rejected)),
        fact("cost", format!("{:.1} s, {} MiB of memory", host.wall_s, host.peak_rss_mib)),
    ];
    let inputs = manifest.inputs.iter();
    facts.extend(
        inputs.map(|(name, input)| (format!("reads {name}"), format!("{} {}", input.key.as_deref().unwrap_or_default(), input.digest))),
    );
    let files = manifest.outputs.iter();
    ArtifactView {
        kind: &id.kind,
        key: &id.key,
        stage: &manifest.stage,
        revision: manifest.revision,
        finished: rfc3339(host.finished_unix_s),
        is_target,
        facts,
        config: serde_json::to_string_pretty(&manifest.config).unwrap_or_default(),
        files: files
            .map(|(path, file)| FileView { digest: file.blake3.to_string(), path: path.display().to_string(), bytes: file.bytes })
            .collect(),
    }
}

/// Digest of the output bytes, for people.
fn digest(manifest: &Manifest) -> String {
    manifest.digest().map(|digest| digest.to_string()).unwrap_or_default()
}

fn render(template: &impl Template) -> String {
    // Rendering fails where a value's `Display` does; those of text and numbers do not.
    template.render().expect("text and numbers are displayed without an error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_do_not_overlap_and_edges_go_from_side_to_side() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::tests::toy::store(&dir.path().join("data"));
        crate::tests::toy::run(&store, "hello");
        let lineage = Lineage::of(&store, &crate::address::latest(&store).unwrap()).unwrap();
        let places: Vec<(usize, usize)> = place(&lineage).iter().map(|one| (one.x, one.y)).collect();
        assert_eq!(places, [(MARGIN, MARGIN), (MARGIN + WIDTH + GAP_X, MARGIN + (HEIGHT + GAP_Y) / 2)]);
        let drawing = svg(&lineage);
        let (width, height) = (2 * (MARGIN + WIDTH) + GAP_X, 2 * MARGIN + HEIGHT + (HEIGHT + GAP_Y) / 2);
        assert!(drawing.contains(&format!("0 0 {width} {height}")), "{drawing}");
        let (from, to) = (MARGIN + HEIGHT / 2, MARGIN + (HEIGHT + GAP_Y) / 2 + HEIGHT / 2);
        assert!(drawing.contains(&format!("M{} {from} C", MARGIN + WIDTH)), "{drawing}");
        assert!(drawing.contains(&format!(" {} {to}\" fill", MARGIN + WIDTH + GAP_X)), "{drawing}");
    }
}
