//! Recall and latency of the vector search, added to the page in `reports/`: times are not reproducible, so they are not part of the
//! artifact.

use askama::Template;

use super::super::curve::Point;
use crate::Result;

/// The plot area, in pixels.
const LEFT: f64 = 60.0;
const TOP: f64 = 15.0;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 240.0;

const COLOURS: [&str; 4] = ["#2f6f4f", "#b5651d", "#4a5fa5", "#8a3b6a"];
/// Shortest time on the axis, in milliseconds.
const SHORTEST: f64 = 1e-3;

/// A line of the grid.
struct Tick {
    at: f64,
    value: f64,
}

/// A measured point in the plot.
struct Mark {
    x: f64,
    y: f64,
    is_graph: bool,
    title: String,
}

/// The points with one share of allowed functions.
struct Line {
    share: f64,
    colour: &'static str,
    /// Of the HNSW searches, as SVG reads them.
    points: String,
    marks: Vec<Mark>,
}

#[derive(Template)]
#[template(path = "curve.html")]
struct CurveSection<'a> {
    times: Vec<Tick>,
    recalls: Vec<Tick>,
    lines: Vec<Line>,
    points: &'a [Point],
}

/// Logarithmic time and linear recall to pixels.
struct Scale {
    low: f64,
    high: f64,
    least_recall: f64,
}

impl Scale {
    fn of(points: &[Point]) -> Self {
        let extreme = |of: fn(f64, f64) -> f64| points.iter().map(|point| point.p50.max(SHORTEST)).reduce(of).unwrap_or(1.0);
        let low = extreme(f64::min).log10().floor();
        let high = extreme(f64::max).log10().ceil().max(low + 1.0);
        Self { low, high, least_recall: points.iter().map(|point| point.recall).fold(0.95, f64::min) }
    }

    fn x(&self, milliseconds: f64) -> f64 {
        LEFT + WIDTH * (milliseconds.max(SHORTEST).log10() - self.low) / (self.high - self.low)
    }

    fn y(&self, recall: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (recall - self.least_recall) / (1.0 - self.least_recall).max(1e-9))
    }

    fn times(&self) -> Vec<Tick> {
        let ticks = (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power));
        ticks.map(|value| Tick { at: self.x(value), value }).collect()
    }

    fn recalls(&self) -> Vec<Tick> {
        let ticks = (0..=4).map(|step| self.least_recall + (1.0 - self.least_recall) * f64::from(step) / 4.0);
        ticks.map(|value| Tick { at: self.y(value), value }).collect()
    }

    fn line(&self, share: f64, colour: &'static str, points: &[Point]) -> Line {
        let points: Vec<&Point> = points.iter().filter(|point| point.allowed == share).collect();
        let position = |point: &Point| format!("{:.1},{:.1}", self.x(point.p50), self.y(point.recall));
        let mark = |point: &&Point| Mark {
            x: self.x(point.p50),
            y: self.y(point.recall),
            is_graph: point.expansion.is_some(),
            title: format!(
                "{} {}, {:.0} % allowed: {:.4}, {:.2} ms",
                point.search,
                point.expansion.unwrap_or_default(),
                share * 100.0,
                point.recall,
                point.p50
            ),
        };
        Line {
            share,
            colour,
            points: points.iter().filter(|point| point.expansion.is_some()).map(|point| position(point)).collect::<Vec<_>>().join(" "),
            marks: points.iter().map(mark).collect(),
        }
    }
}

/// The page with the section about recall and latency at its end.
pub fn with_curve(page: &str, points: &[Point]) -> Result<String> {
    let scale = Scale::of(points);
    let mut shares: Vec<f64> = points.iter().map(|point| point.allowed).collect();
    shares.dedup();
    let lines = shares.iter().zip(COLOURS.into_iter().cycle()).map(|(&share, colour)| scale.line(share, colour, points)).collect();
    let section = CurveSection { times: scale.times(), recalls: scale.recalls(), lines, points }.render()?;
    Ok(page.replacen("</html>", &format!("{section}</html>"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(search: &str, expansion: Option<usize>, allowed: f64, recall: f64, p50: f64) -> Point {
        Point { search: search.to_owned(), expansion, allowed, recall, p50, p99: 2.0 * p50 }
    }

    #[test]
    fn every_point_is_drawn_and_listed() {
        let points = [point("scan", None, 1.0, 1.0, 5.0), point("graphs", Some(16), 1.0, 0.9, 0.5), point("scan", None, 0.5, 1.0, 4.0)];
        let page = with_curve("<h1>Scores</h1></html>\n", &points).unwrap();
        assert_eq!((page.matches("<circle ").count(), page.matches("<rect ").count()), (1, 2));
        assert!(page.contains("<td>graphs<td class=n>16<td class=n>100 %<td class=n>0.9000<td class=n>0.50<td class=n>1.00"), "{page}");
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn a_bundle_without_points_gives_an_empty_plot() {
        assert!(with_curve("</html>", &[]).unwrap().contains("<svg"));
    }

    #[test]
    fn the_axes_reach_from_the_fastest_to_the_slowest_and_from_the_least_recall_to_1() {
        let points = [point("scan", None, 1.0, 1.0, 20.0), point("graphs", Some(16), 1.0, 0.8, 0.5)];
        let scale = Scale::of(&points);
        let times: Vec<(f64, f64)> = scale.times().iter().map(|tick| (tick.value, tick.at)).collect();
        assert_eq!(times, [(0.1, LEFT), (1.0, LEFT + WIDTH / 3.0), (10.0, LEFT + WIDTH * 2.0 / 3.0), (100.0, LEFT + WIDTH)]);
        let recalls: Vec<(f64, f64)> = scale.recalls().iter().map(|tick| (tick.value, tick.at)).collect();
        let expected = [(0.8, 1.0), (0.85, 0.75), (0.9, 0.5), (0.95, 0.25), (1.0, 0.0)].map(|(value, share)| (value, TOP + HEIGHT * share));
        assert_eq!(recalls.len(), expected.len());
        for ((value, at), (expected_value, expected_at)) in recalls.into_iter().zip(expected) {
            assert!((value - expected_value).abs() < 1e-9 && (at - expected_at).abs() < 1e-6, "{value} at {at}");
        }
    }
}
