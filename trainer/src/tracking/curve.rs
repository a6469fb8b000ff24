//! The learning curve as a page: `report.html` of a checkpoint. No scripts, nothing is loaded.

use std::{fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use crate::checkpoints::Epoch;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 48.0;

/// Name, colour and value of a line.
type Drawn<'a> = (&'a str, &'a str, fn(&Epoch) -> f64);

/// Writes the page.
pub fn write_curve(path: &Path, title: &str, epochs: &[Epoch], best: u64) -> Result<()> {
    let lines = |values: &[Drawn]| -> Vec<Line> {
        let line = |&(name, colour, of): &Drawn| Line {
            name: name.to_owned(),
            colour: colour.to_owned(),
            values: epochs.iter().map(of).collect(),
        };
        values.iter().map(line).collect()
    };
    let scores = lines(&[
        ("mrr in the batch, training", "#999", |epoch| epoch.train_mrr),
        ("mrr@in-batch(1000), validation", "#0a7", |epoch| epoch.valid.mrr),
        ("ndcg, validation", "#07a", |epoch| epoch.valid.ndcg),
    ]);
    let losses = lines(&[("loss, training", "#999", |epoch| epoch.loss), ("loss, validation", "#c50", |epoch| epoch.valid.loss)]);
    let mut page = String::new();
    write!(
        page,
        "<!doctype html><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:14px sans-serif;margin:2em;max-width:60em}}td,th{{padding:2px 10px;text-align:right}}svg{{display:block}}</style>\
         <h1>{title}</h1><p>Kept: epoch {}. Batches differ in size, so the two mrr are not of one scale.</p>",
        best + 1
    )?;
    for lines in [scores, losses] {
        page.push_str(&chart(&lines));
    }
    page.push_str(
        "<table><tr><th>epoch<th>loss<th>mrr<th>valid loss<th>valid mrr<th>valid ndcg<th>learning rate<th>gradient<th>clipped<th>scale",
    );
    for epoch in epochs {
        write!(
            page,
            "<tr><td>{}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.4}<td>{:.2e}<td>{:.3}<td>{}<td>{:.2}",
            epoch.epoch + 1,
            epoch.loss,
            epoch.train_mrr,
            epoch.valid.loss,
            epoch.valid.mrr,
            epoch.valid.ndcg,
            epoch.learning_rate,
            epoch.gradient_norm,
            epoch.clipped,
            epoch.scale
        )?;
    }
    page.push_str("</table>\n");
    fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

struct Line {
    name: String,
    colour: String,
    values: Vec<f64>,
}

/// Lines over the epochs, from the smallest to the largest of all values.
fn chart(lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.values).copied().filter(|value| value.is_finite());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let range = if high > low { high - low } else { 1.0 };
    let count = lines.iter().map(|line| line.values.len()).max().unwrap_or_default();
    let x = |epoch: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * epoch as f64 / count.saturating_sub(1).max(1) as f64;
    let y = |value: f64| HEIGHT - MARGIN / 2.0 - (HEIGHT - MARGIN) * (value - low) / range;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\">");
    for value in [low, high] {
        let _ = write!(svg, "<text x=\"2\" y=\"{:.1}\" font-size=\"11\">{value:.3}</text>", y(value) + 4.0);
    }
    for (place, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.values.iter().enumerate().map(|(epoch, &value)| format!("{:.1},{:.1}", x(epoch), y(value))).collect();
        let (colour, name) = (&line.colour, &line.name);
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            MARGIN + 200.0 * place as f64,
            HEIGHT - 4.0
        );
    }
    svg + "</svg>"
}
