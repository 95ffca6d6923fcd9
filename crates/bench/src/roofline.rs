//! A roofline plot as one SVG file: operations per second over operations per byte, both on log scales, below what memory and
//! arithmetic allow (Williams, Waterman, Patterson 2009). Labels are set where they meet nothing else; the style follows
//! the reader's light or dark mode.

use std::fmt::Write;

use crate::ceiling::Ceilings;

const WIDTH: f64 = 1040.0;
const HEIGHT: f64 = 680.0;
/// The plotting area.
const AREA: Rect = Rect { x: 82.0, y: 78.0, w: 930.0, h: 528.0 };
const FONT_PX: f64 = 12.0;
/// Width of a character: generous for a sans-serif face.
const CHAR_PX: f64 = 0.58;
/// Half the side of a marker.
const MARK_PX: f64 = 4.5;
/// Distances from its point at which a label is tried ...
const TRIED_PX: [f64; 14] = [9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 98.0, 118.0, 140.0, 164.0, 190.0, 218.0];
/// ... and directions, in twenty-fourths of a turn, the easiest to read first.
const TRIED_TURNS: [f64; 24] = [
    0.0, 12.0, 6.0, 18.0, 2.0, 22.0, 10.0, 14.0, 4.0, 20.0, 8.0, 16.0, 1.0, 23.0, 11.0, 13.0, 3.0, 21.0, 9.0, 15.0,
    5.0, 19.0, 7.0, 17.0,
];
/// Orders of placing that are tried.
const ROUNDS_MAX: usize = 12;
/// A label farther than this from its point gets a line to it.
const LEADER_PX: f64 = 12.0;
/// Colours that the colour-blind can tell apart (Okabe and Ito), for light and for dark ground. Shapes differ as well.
const COLOURS: [(&str, &str); 7] = [
    ("#0072b2", "#56b4e9"),
    ("#b34a00", "#ff9a4d"),
    ("#007a58", "#2fd6a5"),
    ("#a0437c", "#e79ac6"),
    ("#7a6200", "#f0d54a"),
    ("#4b4bb5", "#a9a9ff"),
    ("#a32a2a", "#ff8f8f"),
];

/// Something measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Points of one series share colour and shape, and stand in the legend together.
    pub series: String,
    /// What is written beside it.
    pub label: String,
    /// Operations per byte.
    pub intensity: f64,
    /// Operations per second, in G.
    pub gops: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
}

impl Rect {
    fn overlaps(self, o: Self) -> bool {
        self.x < o.x + o.w && o.x < self.x + self.w && self.y < o.y + o.h && o.y < self.y + self.h
    }

    fn holds(self, o: Self) -> bool {
        self.x <= o.x && o.x + o.w <= self.x + self.w && self.y <= o.y && o.y + o.h <= self.y + self.h
    }

    fn has(self, (x, y): (f64, f64)) -> bool {
        x > self.x && x < self.x + self.w && y > self.y && y < self.y + self.h
    }

    fn around((x, y): (f64, f64), half: f64) -> Self {
        Self { x: x - half, y: y - half, w: 2.0 * half, h: 2.0 * half }
    }

    /// The point of the rectangle nearest to `(x, y)`.
    fn nearest(self, (x, y): (f64, f64)) -> (f64, f64) {
        (x.clamp(self.x, self.x + self.w), y.clamp(self.y, self.y + self.h))
    }
}

/// A straight line on the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Line((f64, f64), (f64, f64));

impl Line {
    /// Whether it runs through a rectangle, looked at every two pixels.
    fn crosses(self, r: Rect) -> bool {
        let Self((x0, y0), (x1, y1)) = self;
        let steps = ((x1 - x0).hypot(y1 - y0) / 2.0).ceil().clamp(1.0, 4096.0) as u32;
        (0..=steps).map(|i| f64::from(i) / f64::from(steps)).any(|t| r.has((x0 + t * (x1 - x0), y0 + t * (y1 - y0))))
    }
}

/// From figures to pixels.
#[derive(Clone, Copy, Debug)]
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn new(points: &[Point], c: Ceilings) -> Self {
        let ridge = c.int8_gops / c.read_gbps;
        let span = |values: &mut dyn Iterator<Item = f64>, first: f64| {
            values.filter(|v| v.is_finite() && *v > 0.0).fold((first, first), |(l, h), v| (l.min(v), h.max(v)))
        };
        let x = span(&mut points.iter().map(|p| p.intensity), ridge);
        let y = span(&mut points.iter().map(|p| p.gops), c.int8_gops);
        Self { x: (x.0 / 1.7, x.1 * 2.2), y: (y.0 / 1.8, y.1 * 1.6) }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |v: f64, (low, high): (f64, f64)| (v / low).ln() / (high / low).ln();
        (AREA.x + AREA.w * part(x, self.x), AREA.y + AREA.h * (1.0 - part(y, self.y)))
    }
}

/// 1, 2 and 5 times the powers of ten in a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = decades.flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
    all.filter(|v| (low..=high).contains(v)).collect()
}

/// A label's box beside its point, and the line between them where it is far.
#[derive(Clone, Debug, PartialEq)]
struct Label {
    rect: Rect,
    leader: Option<Line>,
}

/// Everything that a label must not meet.
#[derive(Clone, Debug, Default)]
struct Taken {
    marks: Vec<(f64, f64)>,
    rects: Vec<Rect>,
    lines: Vec<Line>,
}

impl Taken {
    /// Whether a label meets nothing; its line may start within marks that lie over its own one.
    fn is_free(&self, own: Rect, label: &Label) -> bool {
        let meets =
            |r: &Rect| r.overlaps(label.rect) || (!r.overlaps(own) && label.leader.is_some_and(|l| l.crosses(*r)));
        AREA.holds(label.rect) && !self.rects.iter().any(meets) && !self.lines.iter().any(|l| l.crosses(label.rect))
    }

    /// Whether a label without a line is clearly its own point's: no other one is nearer.
    fn is_clear(&self, point: (f64, f64), label: &Label) -> bool {
        let far = |p: (f64, f64)| {
            let near = label.rect.nearest(p);
            (near.0 - p.0).hypot(near.1 - p.1)
        };
        label.leader.is_some() || self.marks.iter().all(|m| far(*m) >= far(point))
    }

    /// The first free place near a point.
    fn place(&mut self, point: (f64, f64), text: &str) -> Option<Label> {
        let own = Rect::around(point, MARK_PX);
        let found = TRIED_PX.into_iter().flat_map(|px| TRIED_TURNS.map(|turn| candidate(point, text, px, turn)));
        let found = found.into_iter().find(|l| self.is_clear(point, l) && self.is_free(own, l))?;
        self.rects.push(found.rect);
        self.lines.extend(found.leader);
        Some(found)
    }
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT_PX * CHAR_PX + 4.0
}

/// A label whose nearest edge is about `px` from the point, towards `turn`.
fn candidate((x, y): (f64, f64), text: &str, px: f64, turn: f64) -> Label {
    let (sin, cos) = (turn / 24.0 * std::f64::consts::TAU).sin_cos();
    let (w, h) = (text_width(text), FONT_PX + 2.0);
    let (cx, cy) = (x + cos * (px + w / 2.0), y - sin * (px + h / 2.0));
    let rect = Rect { x: cx - w / 2.0, y: cy - h / 2.0, w, h };
    let near = rect.nearest((x, y));
    let far = (near.0 - x).hypot(near.1 - y) > LEADER_PX;
    Label { rect, leader: far.then_some(Line((x, y), near)) }
}

/// Where everything goes.
struct Plan {
    scale: Scale,
    series: Vec<String>,
    roofs: [Line; 2],
    roof_labels: [(Rect, String); 2],
    legend: Rect,
    labels: Vec<Option<Label>>,
}

impl Plan {
    fn new(c: Ceilings, points: &[Point]) -> Self {
        let scale = Scale::new(points, c);
        let mut series: Vec<String> = Vec::new();
        for p in points {
            if !series.contains(&p.series) {
                series.push(p.series.clone());
            }
        }
        let roofs = roofs(&scale, c);
        let roof_labels = roof_labels(roofs, c);
        let longest = series.iter().map(|s| text_width(s)).fold(0.0, f64::max);
        let (w, h) = (longest + 34.0, series.len() as f64 * 20.0 + 10.0);
        let legend = Rect { x: AREA.x + AREA.w - w - 10.0, y: AREA.y + AREA.h - h - 10.0, w, h };
        let mut plan = Self { scale, series, roofs, roof_labels, legend, labels: vec![] };
        plan.labels = plan.place(points);
        plan
    }

    fn place(&self, points: &[Point]) -> Vec<Option<Label>> {
        let at: Vec<_> = points.iter().map(|p| self.scale.at(p.intensity, p.gops)).collect();
        let mut taken = Taken { marks: at.clone(), rects: vec![self.legend], lines: self.roofs.to_vec() };
        taken.rects.extend(self.roof_labels.iter().map(|(r, _)| *r));
        taken.rects.extend(at.iter().map(|p| Rect::around(*p, MARK_PX)));
        let mut order: Vec<usize> = (0..points.len()).collect();
        let mut best = self.try_order(&taken, points, &at, &order);
        for _ in 0..ROUNDS_MAX {
            // Who found no place goes first next time.
            let Some(left_out) = order.iter().position(|i| best[*i].is_none()) else { break };
            order[..=left_out].rotate_right(1);
            let next = self.try_order(&taken, points, &at, &order);
            let placed = |labels: &[Option<Label>]| labels.iter().flatten().count();
            if placed(&next) >= placed(&best) {
                best = next;
            }
        }
        best
    }

    fn try_order(&self, fixed: &Taken, points: &[Point], at: &[(f64, f64)], order: &[usize]) -> Vec<Option<Label>> {
        let (mut taken, mut labels) = (fixed.clone(), vec![None; points.len()]);
        for i in order {
            labels[*i] = taken.place(at[*i], &points[*i].label);
        }
        labels
    }
}

/// The memory roof up to the ridge, then the compute roof.
fn roofs(scale: &Scale, c: Ceilings) -> [Line; 2] {
    let ridge = scale.at(c.int8_gops / c.read_gbps, c.int8_gops);
    // Where the memory roof enters the picture: at its left edge, or at its lower one.
    let enters = scale.x.0.max(scale.y.0 / c.read_gbps);
    let start = scale.at(enters, c.read_gbps * enters);
    [Line(start, ridge), Line(ridge, scale.at(scale.x.1, c.int8_gops))]
}

fn roof_labels([memory, compute]: [Line; 2], c: Ceilings) -> [(Rect, String); 2] {
    let text = format!("memory roof: {:.1} GB/s", c.read_gbps);
    let (w, h) = (text_width(&text), FONT_PX + 2.0);
    let Line((x0, y0), (x1, y1)) = memory;
    // Left of the line, at the first height where it fits: nothing is measured above a roof.
    let slope = (y1 - y0) / (x1 - x0).max(1.0);
    let x = (AREA.x + w + 20.0).max(x0 + 0.45 * (x1 - x0)).min(x1);
    let first = Rect { x: x - w - 8.0, y: y0 + slope * (x - x0) - h - 4.0, w, h };
    let text_b = format!("int8 roof: {:.0} Gop/s", c.int8_gops);
    let w = text_width(&text_b);
    let second = Rect { x: compute.1.0 - w - 6.0, y: compute.0.1 - h - 5.0, w, h };
    [(first, text), (second, text_b)]
}

/// Draws the plot. `notes` are lines below the title.
pub fn svg(title: &str, notes: [&str; 2], c: Ceilings, points: &[Point]) -> String {
    let plan = Plan::new(c, points);
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"{0}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"{FONT_PX}\">\n<title>{0}</title>\n<style>{1}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"ink\" x=\"{2}\" y=\"30\" font-size=\"18\" font-weight=\"600\">{0}</text>\n\
         <text class=\"soft\" x=\"{2}\" y=\"49\">{3}</text>\n\
         <text class=\"soft\" x=\"{2}\" y=\"66\">{4}</text>\n",
        escape(title),
        style(),
        AREA.x,
        escape(notes[0]),
        escape(notes[1])
    );
    axes(&mut out, &plan.scale);
    roof_marks(&mut out, &plan);
    for (p, label) in points.iter().zip(&plan.labels) {
        point(&mut out, &plan, p, label.as_ref());
    }
    legend(&mut out, &plan);
    out.push_str("</svg>\n");
    out
}

fn style() -> String {
    let rules = |ground: &str, ink: &str, soft: &str, grid: &str, dark: bool| {
        let mut out = format!(
            ".ground{{fill:{ground}}}.ink{{fill:{ink}}}.soft{{fill:{soft}}}.grid{{stroke:{grid}}}\
             .roof{{stroke:{ink}}}.lead{{stroke:{soft}}}.box{{fill:{ground};stroke:{grid}}}"
        );
        for (i, (on_light, on_dark)) in COLOURS.iter().enumerate() {
            let _ = write!(out, ".s{i}{{fill:{}}}", if dark { on_dark } else { on_light });
        }
        out
    };
    let light = rules("#ffffff", "#1b1f24", "#57606a", "#d8dee4", false);
    let dark = rules("#0d1117", "#e6edf3", "#9da7b1", "#30363d", true);
    format!("{light}@media (prefers-color-scheme:dark){{{dark}}}")
}

fn axes(out: &mut String, scale: &Scale) {
    let (left, right, top, bottom) = (AREA.x, AREA.x + AREA.w, AREA.y, AREA.y + AREA.h);
    for v in ticks(scale.x) {
        let x = scale.at(v, scale.y.0).0;
        line(out, "grid", Line((x, top), (x, bottom)), 1.0);
        text(out, "soft", (x, bottom + 18.0), "middle", &v.to_string());
    }
    for v in ticks(scale.y) {
        let y = scale.at(scale.x.0, v).1;
        line(out, "grid", Line((left, y), (right, y)), 1.0);
        text(out, "soft", (left - 8.0, y + 4.0), "end", &v.to_string());
    }
    text(out, "ink", (left + AREA.w / 2.0, bottom + 44.0), "middle", "int8 operations per byte of weights");
    let middle = top + AREA.h / 2.0;
    let _ = writeln!(
        out,
        "<text class=\"ink\" x=\"24\" y=\"{middle}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 24 {middle})\">Gop/s</text>"
    );
}

fn roof_marks(out: &mut String, plan: &Plan) {
    for roof in plan.roofs {
        line(out, "roof", roof, 2.0);
    }
    for (rect, words) in &plan.roof_labels {
        text(out, "ink", (rect.x + rect.w / 2.0, rect.y + FONT_PX - 1.0), "middle", words);
    }
}

fn point(out: &mut String, plan: &Plan, p: &Point, label: Option<&Label>) {
    let at = plan.scale.at(p.intensity, p.gops);
    let series = plan.series.iter().position(|s| *s == p.series).unwrap_or(0);
    if let Some(leader) = label.and_then(|l| l.leader) {
        line(out, "lead", leader, 0.8);
    }
    let about = format!("{} {}: {:.1} Gop/s at {:.1} ops/byte", p.series, p.label, p.gops, p.intensity);
    marker(out, series, at, &about);
    if let Some(Label { rect, .. }) = label {
        let class = format!("s{}", series % COLOURS.len());
        text(out, &class, (rect.x + rect.w / 2.0, rect.y + FONT_PX - 1.0), "middle", &p.label);
    }
}

fn legend(out: &mut String, plan: &Plan) {
    let Rect { x, y, w, h } = plan.legend;
    let _ =
        writeln!(out, "<rect class=\"box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"4\"/>");
    for (i, series) in plan.series.iter().enumerate() {
        let y = y + 15.0 + 20.0 * i as f64;
        marker(out, i, (x + 14.0, y), series);
        text(out, "ink", (x + 26.0, y + 4.0), "start", series);
    }
}

/// Disc, square, two triangles, diamond: colour is not the only difference.
fn marker(out: &mut String, series: usize, (x, y): (f64, f64), about: &str) {
    let r = MARK_PX;
    let polygon = |corners: &[(f64, f64)]| {
        let corners: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx * r, y + dy * r)).collect();
        format!("<polygon points=\"{}\"", corners.join(" "))
    };
    let shape = match series % 5 {
        0 => polygon(&[(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)]),
        1 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\"", r * 0.9),
        2 => polygon(&[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]),
        3 => polygon(&[(0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)]),
        _ => polygon(&[(0.0, 1.0), (1.0, -0.8), (-1.0, -0.8)]),
    };
    let class = series % COLOURS.len();
    let _ = writeln!(out, "{shape} class=\"s{class}\"><title>{}</title>{}", escape(about), close(&shape));
}

fn close(shape: &str) -> &'static str {
    if shape.starts_with("<circle") { "</circle>" } else { "</polygon>" }
}

fn line(out: &mut String, class: &str, Line((x0, y0), (x1, y1)): Line, width: f64) {
    let _ = writeln!(
        out,
        "<line class=\"{class}\" x1=\"{x0:.1}\" y1=\"{y0:.1}\" x2=\"{x1:.1}\" y2=\"{y1:.1}\" stroke-width=\"{width}\"/>"
    );
}

fn text(out: &mut String, class: &str, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

fn escape(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
#[path = "roofline_tests.rs"]
mod tests;
