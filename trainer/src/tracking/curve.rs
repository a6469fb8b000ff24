//! `report.html` of a checkpoint: the learning curve as a page without scripts and external files.

use std::{fs, path::Path};

use askama::Template;

use crate::{
    error::{Context, Result},
    training::progress::Epoch,
};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 48.0;

/// Name, colour and values of a line.
type Series<'a> = (&'a str, &'a str, fn(&Epoch) -> f64);

const SCORES: [Series<'static>; 3] = [
    ("mrr in the batch, training", "#999", |epoch| epoch.train_mrr),
    ("mrr@in-batch(1000), validation", "#0a7", |epoch| epoch.valid.mrr),
    ("ndcg, validation", "#07a", |epoch| epoch.valid.ndcg),
];
const LOSSES: [Series<'static>; 2] =
    [("loss, training", "#999", |epoch| epoch.loss), ("loss, validation", "#c50", |epoch| epoch.valid.loss)];

#[derive(Template)]
#[template(path = "curve.html")]
struct Page<'a> {
    title: &'a str,
    /// Counted from 1.
    best: u64,
    charts: [Chart; 2],
    rows: Vec<[String; 10]>,
}

struct Chart {
    width: f64,
    height: f64,
    labels: [Label; 2],
    lines: Vec<Line>,
}

/// A number at the left border.
struct Label {
    y: String,
    value: String,
}

struct Line {
    name: String,
    colour: String,
    points: String,
    /// Position of the name.
    x: String,
    y: String,
}

/// Writes the page; `best` is the recorded epoch, counted from 0.
///
/// # Errors
/// The file cannot be written.
pub fn write_curve(path: &Path, title: &str, epochs: &[Epoch], best: u64) -> Result<()> {
    let charts = [chart(&SCORES, epochs), chart(&LOSSES, epochs)];
    let page = Page { title, best: best + 1, charts, rows: epochs.iter().map(cells).collect() }.render()?;
    fs::write(path, page + "\n").with_context(|| format!("writing {}", path.display()))
}

fn cells(epoch: &Epoch) -> [String; 10] {
    [
        (epoch.epoch + 1).to_string(),
        format!("{:.4}", epoch.loss),
        format!("{:.4}", epoch.train_mrr),
        format!("{:.4}", epoch.valid.loss),
        format!("{:.4}", epoch.valid.mrr),
        format!("{:.4}", epoch.valid.ndcg),
        format!("{:.2e}", epoch.learning_rate),
        format!("{:.3}", epoch.gradient_norm),
        epoch.clipped.to_string(),
        format!("{:.2}", epoch.scale),
    ]
}

/// Lines over the epochs; the vertical axis covers all their finite values.
fn chart(series: &[Series<'_>], epochs: &[Epoch]) -> Chart {
    let all = || series.iter().flat_map(|(_, _, of)| epochs.iter().map(of)).filter(|value| value.is_finite());
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let range = if high > low { high - low } else { 1.0 };
    let x = |epoch: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * epoch as f64 / epochs.len().saturating_sub(1).max(1) as f64;
    let y = |value: f64| HEIGHT - MARGIN / 2.0 - (HEIGHT - MARGIN) * (value - low) / range;
    let line = |(place, (name, colour, of)): (usize, &Series<'_>)| {
        let points: Vec<String> = epochs.iter().enumerate().map(|(epoch, value)| format!("{:.1},{:.1}", x(epoch), y(of(value)))).collect();
        Line {
            name: (*name).to_owned(),
            colour: (*colour).to_owned(),
            points: points.join(" "),
            x: format!("{:.1}", MARGIN + 200.0 * place as f64),
            y: format!("{:.1}", HEIGHT - 4.0),
        }
    };
    Chart {
        width: WIDTH,
        height: HEIGHT,
        labels: [low, high].map(|value| Label { y: format!("{:.1}", y(value) + 4.0), value: format!("{value:.3}") }),
        lines: series.iter().enumerate().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::progress::Scores;

    fn epoch(number: u64, mrr: f64) -> Epoch {
        Epoch {
            epoch: number,
            loss: 2.0,
            train_mrr: 0.5,
            valid: Scores { loss: 1.5, mrr, ndcg: 0.25 },
            learning_rate: 0.001,
            gradient_norm: 1.25,
            clipped: 3,
            scale: 14.0,
        }
    }

    fn page(title: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.html");
        write_curve(&path, title, &[epoch(0, 0.1), epoch(1, 0.2)], 1).unwrap();
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_page_has_two_charts_and_a_row_for_each_epoch() {
        insta::assert_snapshot!(page("2 training pairs"));
    }

    #[test]
    fn text_is_escaped() {
        let page = page("<script>alert(1)</script>");
        assert!(!page.contains("<script>"), "{page}");
    }
}
