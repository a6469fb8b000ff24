//! `lineage.html` and `lineage.svg`: the same graph to look at. No scripts, nothing is loaded.

use std::fmt::Write;

use ledger::{ArtifactId, Manifest, rfc3339};

use crate::lineage::{Lineage, commit};

const WIDTH: usize = 190;
const HEIGHT: usize = 66;
const GAP_X: usize = 46;
const GAP_Y: usize = 22;
const MARGIN: usize = 16;

/// A box of the drawing.
struct Placed<'a> {
    id: &'a ArtifactId,
    manifest: &'a Manifest,
    x: usize,
    y: usize,
}

/// Columns by the longest way from the raw files, rows in the order of keys.
fn place(lineage: &Lineage) -> Vec<Placed<'_>> {
    let mut filled = Vec::new();
    let mut ids: Vec<_> = lineage.artifacts.iter().map(|(id, manifest)| (lineage.depth(id), id, manifest)).collect();
    ids.sort_by_key(|(depth, id, _)| (*depth, (*id).clone()));
    ids.into_iter()
        .map(|(depth, id, manifest)| {
            filled.resize(filled.len().max(depth + 1), 0usize);
            let row = filled[depth];
            filled[depth] += 1;
            // Every other column is set lower, so that an edge over it stays visible.
            let lower = if depth % 2 == 1 { (HEIGHT + GAP_Y) / 2 } else { 0 };
            Placed { id, manifest, x: MARGIN + depth * (WIDTH + GAP_X), y: MARGIN + row * (HEIGHT + GAP_Y) + lower }
        })
        .collect()
}

/// The graph, raw files on the left.
pub fn svg(lineage: &Lineage) -> String {
    let placed = place(lineage);
    let width = placed.iter().map(|one| one.x + WIDTH).max().unwrap_or_default() + MARGIN;
    let height = placed.iter().map(|one| one.y + HEIGHT).max().unwrap_or_default() + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    for to in &placed {
        for input in lineage.inputs(to.manifest).0 {
            let Some(from) = placed.iter().find(|one| *one.id == input) else { continue };
            let (x1, y1, x2, y2) = (from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2);
            let middle = (x1 + x2) / 2;
            let _ = writeln!(
                svg,
                "<path d=\"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#999\" stroke-width=\"1.5\"/>"
            );
        }
    }
    for one in &placed {
        let fill = if *one.id == lineage.target { "#dff3ea" } else { "#f4f6f8" };
        let (x, y, manifest) = (one.x, one.y, one.manifest);
        let _ = write!(
            svg,
            "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"#557\"/>",
            escape(&manifest.digest().map(|digest| digest.to_string()).unwrap_or_default())
        );
        let lines = [
            format!("{} {}", one.id.kind, one.id.key),
            format!("{} r{}, {} rows", manifest.stage, manifest.revision, manifest.rows.written),
            format!("{:.1} MiB, {:.1} s", manifest.bytes_out() as f64 / (1 << 20) as f64, manifest.host.wall_s),
        ];
        for (number, line) in lines.iter().enumerate() {
            let weight = if number == 0 { " font-weight=\"bold\"" } else { "" };
            let _ = write!(svg, "<text x=\"{}\" y=\"{}\"{weight}>{}</text>", x + 10, y + 20 + 18 * number, escape(line));
        }
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

/// The graph and, below it, all that is recorded of each box.
pub fn html(lineage: &Lineage) -> String {
    let title = format!("Lineage of {} {}", lineage.target.kind, lineage.target.key);
    let mut page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:14px sans-serif;margin:2em}}td,th{{padding:2px 12px 2px 0;text-align:left;vertical-align:top}}\
         code,pre{{font:12px monospace}}summary{{cursor:pointer;padding:4px 0}}svg{{max-width:100%;height:auto}}</style>\
         <h1>{title}</h1><p>Raw files on the left. A box says stage and revision, rows, size and time; a digest shows when the pointer rests on it.</p>\
         {}",
        svg(lineage)
    );
    let mut placed = place(lineage);
    placed.reverse();
    for one in placed {
        let (manifest, host) = (one.manifest, &one.manifest.host);
        let _ = write!(
            page,
            "<details{}><summary><b>{} {}</b>, made by {} r{}, {}</summary><table>",
            if *one.id == lineage.target { " open" } else { "" },
            escape(&one.id.kind),
            escape(&one.id.key),
            escape(&manifest.stage),
            manifest.revision,
            rfc3339(host.finished_unix_s)
        );
        let mut row = |name: &str, value: &str| {
            let _ = write!(page, "<tr><th>{name}<td>{}", escape(value));
        };
        row("bytes", &manifest.digest().map(|digest| digest.to_string()).unwrap_or_default());
        row("commit", &commit(manifest));
        row("tool", &format!("{}, {} {}, {} threads", host.tool, host.os, host.arch, host.threads));
        row("rows", &format!("{} in, {} out, {} rejected", manifest.rows.read, manifest.rows.written, manifest.rows.rejected));
        row("cost", &format!("{:.1} s, {} MiB of memory", host.wall_s, host.peak_rss_mib));
        for (name, input) in &manifest.inputs {
            row(&format!("reads {}", escape(name)), &format!("{} {}", input.key.clone().unwrap_or_default(), input.digest));
        }
        page.push_str("</table><details><summary>configuration</summary><pre>");
        page.push_str(&escape(&serde_json::to_string_pretty(&manifest.config).unwrap_or_default()));
        let _ = write!(page, "</pre></details><details><summary>{} files</summary><table>", manifest.outputs.len());
        for (path, file) in &manifest.outputs {
            let _ = write!(page, "<tr><td><code>{}</code><td>{}<td>{} bytes", file.blake3, escape(&path.display().to_string()), file.bytes);
        }
        page.push_str("</table></details></details>\n");
    }
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
