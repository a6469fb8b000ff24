//! `reports/nightly.html`: the last night, and the score and the cost of the last thirty.

use anyhow::Result;
use askama::Template;
use ledger::{plain, rfc3339};

use super::night::Night;

/// Nights in the plots.
const SHOWN: usize = 30;
/// Size of a plot, and the space at its side, in pixels.
const WIDTH: f64 = 680.0;
const HEIGHT: f64 = 150.0;
const MARGIN: f64 = 50.0;

#[derive(Template)]
#[template(path = "nightly.html")]
struct Page<'a> {
    started: String,
    summary: String,
    night: &'a Night,
    /// Oldest first.
    nights: Vec<&'a Night>,
    plots: Vec<Plot>,
}

/// A number for each night.
struct Plot {
    title: &'static str,
    width: f64,
    height: f64,
    points: Vec<Mark>,
    /// The smallest and the largest number.
    labels: Vec<Mark>,
}

struct Mark {
    x: f64,
    y: f64,
    label: String,
}

/// The page. `before`: the nights before, oldest first; `published`: the last one of them that was published.
pub fn html(night: &Night, before: &[Night], published: Option<&Night>) -> Result<String> {
    let mut nights: Vec<&Night> = before.iter().chain([night]).collect();
    nights.drain(..nights.len().saturating_sub(SHOWN));
    let scores: Vec<Option<f64>> = nights.iter().map(|night| night.score()).collect();
    let similarities: Vec<Option<f64>> = nights.iter().map(|night| night.drift.map(|drift| drift.similarity)).collect();
    let costs: Vec<Option<f64>> = nights.iter().map(|night| Some(night.cpu_s)).collect();
    let page = Page {
        started: rfc3339(night.started_unix_s),
        summary: plain(&night.text(published)),
        night,
        nights,
        plots: vec![
            plot("mrr@corpus of hybrid search", &scores),
            plot("Similarity of the tokens to those of the first night with the release", &similarities),
            plot("CPU seconds", &costs),
        ],
    };
    Ok(page.render()?)
}

/// Points of the numbers that exist.
fn plot(title: &'static str, values: &[Option<f64>]) -> Plot {
    let known = || values.iter().enumerate().filter_map(|(place, value)| Some((place, (*value)?)));
    let (least, most) = known().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), (_, value)| (least.min(value), most.max(value)));
    let span = if most > least { most - least } else { 1.0 };
    let x = |place: usize| MARGIN + (WIDTH - MARGIN - 10.0) * place as f64 / (values.len().max(2) - 1) as f64;
    let y = |value: f64| 10.0 + (HEIGHT - 20.0) * (most - value) / span;
    let mark = |(place, value): (usize, f64)| Mark { x: x(place), y: y(value), label: number(value) };
    let mut ends: Vec<f64> = [least, most].into_iter().filter(|value| value.is_finite()).collect();
    ends.dedup();
    let label = |value: f64| Mark { x: 0.0, y: y(value) + 4.0, label: number(value) };
    Plot { title, width: WIDTH, height: HEIGHT, points: known().map(mark).collect(), labels: ends.into_iter().map(label).collect() }
}

fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nightly::night::{Ending, tests::night};

    #[test]
    fn the_page_shows_the_night_and_at_most_thirty_nights_and_escapes_names() {
        let before: Vec<Night> = (0..40).map(|count| night(Ending::Published, 0.5 + f64::from(count) / 1000.0)).collect();
        let last = Night { why: Some("<script>".to_owned()), ..night(Ending::Failed, 0.6) };
        let page = html(&last, &before, before.last()).unwrap();
        assert!(!page.contains("<script>") && !page.contains("<tests>") && !page.contains("<b0>"), "{page}");
        assert!(page.contains("similarity of the tokens 0.980") && page.contains("The next publication deletes the bundle"), "{page}");
        assert!(page.contains("<tr><td>go</td><td class=\"n\">400</td><td class=\"n\">672</td>"), "{page}");
        assert_eq!((page.matches("<circle").count(), page.matches("<td>published</td>").count()), (90, 29));
        assert!(page.contains(">0.511</text>") && page.contains(">0.600</text>"), "{page}");
    }

    #[test]
    fn equal_numbers_and_no_numbers_are_drawn() {
        let same = plot("", &[Some(1.0), None, Some(1.0)]);
        assert_eq!((same.points.len(), same.labels.len()), (2, 1));
        assert!(plot("", &[None]).labels.is_empty());
    }
}
