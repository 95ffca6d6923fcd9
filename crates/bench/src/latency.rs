//! The distribution of times from key to suggestion as one SVG file: which share of all keys has one after so many
//! milliseconds. Curves of both sides end at the share at which anything was shown.

use std::fmt::Write;

use crate::keystrokes::{Report, Side};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 56.0;
const AREA_W: f64 = 770.0;
const AREA_H: f64 = 340.0;
/// Milliseconds at the ends of the axis.
const MS: (f64, f64) = (0.03, 3_000.0);
/// Colours that the colour-blind can tell apart (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#b34a00", "#007a58", "#a0437c"];

fn x(ms: f64) -> f64 {
    LEFT + AREA_W * ((ms.clamp(MS.0, MS.1) / MS.0).ln() / (MS.1 / MS.0).ln())
}

fn y(share: f64) -> f64 {
    TOP + AREA_H * (1.0 - share.clamp(0.0, 1.0))
}

fn curve(ms: &[f64], keys: usize) -> String {
    let mut sorted = ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (mut path, n) = (format!("M{:.1} {:.1}", x(MS.0), y(0.0)), keys.max(1) as f64);
    for (i, ms) in sorted.iter().enumerate() {
        let _ = write!(path, "H{:.1}V{:.1}", x(*ms), y((i + 1) as f64 / n));
    }
    let _ = write!(path, "H{:.1}", x(MS.1));
    path
}

/// Draws a report.
pub fn svg(report: &Report) -> String {
    let sides: Vec<(&str, &Side)> = std::iter::once(("vonk", &report.ours))
        .chain(report.against.iter().map(|s| ("llama.vim's way on llama.cpp", s)))
        .collect();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">From key to suggestion: {} keys of {}, seed {}</text>\n\
         <text x=\"{LEFT}\" y=\"40\" fill=\"#555555\">share of all keys that have a suggestion for exactly that text, before the next key comes</text>\n",
        report.ours.keys,
        report.trace.replace(['<', '&', '>'], " "),
        report.seed
    );
    for (ms, label) in
        [(0.1, "0.1"), (1.0, "1"), (10.0, "10"), (50.0, "50"), (250.0, "250"), (1_000.0, "1000"), (3_000.0, "3000 ms")]
    {
        let (at, bottom) = (x(ms), TOP + AREA_H);
        let _ = writeln!(out, "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#dddddd\"/>");
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>", bottom + 18.0);
    }
    for percent in [0, 20, 40, 60, 80, 100] {
        let at = y(f64::from(percent) / 100.0);
        let _ = writeln!(out, "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#dddddd\"/>", LEFT + AREA_W);
        let _ =
            writeln!(out, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>", LEFT - 6.0, at + 4.0);
    }
    for (i, (name, side)) in sides.iter().enumerate() {
        for (j, (what, ms)) in [("all", &side.all_ms), ("new answers", &side.new_ms)].into_iter().enumerate() {
            let colour = COLOURS[(2 * i + j) % COLOURS.len()];
            let (legend, dash) =
                (TOP + AREA_H + 44.0 + 18.0 * j as f64, if j == 0 { "" } else { " stroke-dasharray=\"5 3\"" });
            let from = LEFT + 380.0 * i as f64;
            let _ = writeln!(
                out,
                "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
                curve(ms, side.keys)
            );
            let _ = writeln!(
                out,
                "<path d=\"M{from} {:.1}h28\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
                legend - 4.0
            );
            let _ = writeln!(out, "<text x=\"{:.1}\" y=\"{legend:.1}\">{name}: {what}</text>", from + 36.0);
        }
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_rise_to_the_share_that_was_shown() {
        let path = curve(&[10.0, 100.0, 50_000.0], 6);
        assert!(path.ends_with(&format!("V{:.1}H{:.1}", y(0.5), x(MS.1))), "{path}");
        let ours = Side { keys: 6, all_ms: vec![1.0], ..Side::default() };
        let report = Report { trace: "a<b".into(), seed: 1, ours, against: Some(Side::default()), ratio: None };
        let drawn = svg(&report);
        assert!(
            drawn.starts_with("<svg")
                && drawn.ends_with("</svg>\n")
                && !drawn.contains("a<b")
                && !drawn.contains("NaN")
        );
    }
}
