//! The roofline plot: every point has a label, nothing is written over anything else, hostile names stay text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;

const MACHINE: Ceilings = Ceilings { read_gbps: 35.2, int8_gops: 1_775.0, f32_gflops: 471.0 };

/// Four weight types and a whole model, as `vonk bench roofline` makes them: points of neighbouring types nearly meet.
fn usual(share: f64) -> Vec<Point> {
    let point = |series: &str, label: String, intensity: f64| {
        let gops = share * MACHINE.int8_gops.min(MACHINE.read_gbps * intensity);
        Point { series: series.into(), label, intensity, gops }
    };
    let mut out: Vec<Point> =
        [("decode", 2.1), ("4 rows", 8.5), ("16 rows", 34.0), ("64 rows", 136.0), ("prefill 512", 900.0)]
            .map(|(label, x)| point("whole model", label.into(), x))
            .to_vec();
    // One that lies on another, mark on mark.
    out.push(Point { series: "Q6_K".into(), label: "Q6_K on it".into(), ..out[2].clone() });
    for (series, per_row) in [("Q4_K", 3.56), ("Q5_0", 2.91), ("Q6_K", 2.44), ("Q8_0", 1.88)] {
        for rows in [1, 4, 16, 64, 512] {
            out.push(point(series, format!("{series} x{rows}"), per_row * f64::from(rows)));
        }
    }
    out
}

/// Text boxes, markers, legend: whatever can be written over.
fn check_nothing_overlaps(plan: &Plan, points: &[Point]) {
    let labels: Vec<Rect> = plan.labels.iter().flatten().map(|l| l.rect).collect();
    let mut fixed: Vec<Rect> =
        points.iter().map(|p| Rect::around(plan.scale.at(p.intensity, p.gops), MARK_PX)).collect();
    fixed.push(plan.legend);
    fixed.extend(plan.roof_labels.iter().map(|(r, _)| *r));
    for (i, label) in labels.iter().enumerate() {
        assert!(AREA.holds(*label), "label {i} leaves the plot: {label:?}");
        assert!(labels[..i].iter().all(|other| !other.overlaps(*label)), "label {i} lies on another");
        assert!(fixed.iter().all(|other| !other.overlaps(*label)), "label {i} lies on a mark, roof label or legend");
        assert!(plan.roofs.iter().all(|roof| !roof.crosses(*label)), "label {i} lies on a roof");
        let leaders = plan.labels.iter().flatten().filter_map(|l| l.leader);
        let inner = Rect { x: label.x + 1.0, y: label.y + 1.0, w: label.w - 2.0, h: label.h - 2.0 };
        assert!(leaders.into_iter().all(|l| !l.crosses(inner)), "a line runs through label {i}");
    }
    let at: Vec<_> = points.iter().map(|p| plan.scale.at(p.intensity, p.gops)).collect();
    let far = |r: Rect, p: (f64, f64)| (r.nearest(p).0 - p.0).hypot(r.nearest(p).1 - p.1);
    for (own, label) in at.iter().zip(&plan.labels).filter_map(|(p, l)| Some((p, l.as_ref()?))) {
        let is_nearest = at.iter().all(|p| far(label.rect, *p) >= far(label.rect, *own));
        assert!(is_nearest || label.leader.is_some(), "whose label is {label:?}?");
    }
    let [(a, _), (b, _)] = &plan.roof_labels;
    assert!(!a.overlaps(*b) && AREA.holds(*a) && AREA.holds(*b), "{a:?} {b:?}");
    assert!(plan.roofs.iter().all(|roof| !roof.crosses(*a) && !roof.crosses(*b)));
}

#[test]
fn every_point_has_a_label_and_nothing_lies_on_anything() {
    for share in [1.0, 0.9, 0.6, 0.3] {
        let points = usual(share);
        let plan = Plan::new(MACHINE, &points);
        let without: Vec<&Point> =
            points.iter().zip(&plan.labels).filter(|(_, l)| l.is_none()).map(|(p, _)| p).collect();
        assert!(without.is_empty(), "at {share} of the roofs: {without:?}");
        check_nothing_overlaps(&plan, &points);
    }
}

#[test]
fn a_crowd_loses_labels_rather_than_readability() {
    let crowd: Vec<Point> = (0..120)
        .map(|i| Point {
            series: format!("s{}", i % 9),
            label: format!("point {i}"),
            intensity: 10.0 + f64::from(i % 12),
            gops: 100.0 + f64::from(i / 12),
        })
        .collect();
    let plan = Plan::new(MACHINE, &crowd);
    let labelled = plan.labels.iter().flatten().count();
    assert!(labelled > 0 && labelled < crowd.len(), "{labelled}");
    check_nothing_overlaps(&plan, &crowd);
}

#[test]
fn roofs_meet_at_the_ridge_and_have_their_slopes() {
    let plan = Plan::new(MACHINE, &usual(0.5));
    let [Line(start, ridge), Line(ridge_too, end)] = plan.roofs;
    assert_eq!(ridge, ridge_too);
    assert_eq!(ridge, plan.scale.at(MACHINE.int8_gops / MACHINE.read_gbps, MACHINE.int8_gops));
    assert!((ridge.1 - end.1).abs() < 1e-9 && AREA.holds(Rect::around(start, 0.0)));
    // A point at the memory roof lies on the line: on log scales it is straight.
    let (x, y) = plan.scale.at(10.0, 10.0 * MACHINE.read_gbps);
    let on_line = start.1 + (ridge.1 - start.1) * (x - start.0) / (ridge.0 - start.0);
    assert!((y - on_line).abs() < 1e-6, "{y} {on_line}");
}

#[test]
fn ticks_are_ones_twos_and_fives_within_the_range() {
    assert_eq!(ticks((0.9, 25.0)), [1.0, 2.0, 5.0, 10.0, 20.0]);
    assert!(ticks((3.0, 4.0)).is_empty());
}

#[test]
fn names_from_files_stay_text() {
    let points = [Point { series: "<script>".into(), label: "a&b\u{7}".into(), intensity: 2.0, gops: 3.0 }];
    let drawn = svg("\"x\" <y>", ["n", "o"], MACHINE, &points);
    assert!(!drawn.contains("<script>") && drawn.contains("&lt;script&gt;") && drawn.contains("a&amp;b "), "{drawn}");
    assert!(!drawn.contains('\u{7}') && drawn.contains("aria-label=\"&quot;x&quot; &lt;y&gt;\""));
    assert_eq!(drawn.matches("<svg").count(), drawn.matches("</svg>").count());
}

#[test]
fn text_is_large_enough_and_follows_the_readers_mode() {
    let drawn = svg("t", ["n", "o"], MACHINE, &usual(0.8));
    let sizes = drawn.split("font-size=\"").skip(1).map(|s| s.split('"').next().unwrap().parse::<f64>().unwrap());
    assert!(sizes.clone().count() > 0 && sizes.into_iter().all(|px| px >= 11.0));
    assert!(drawn.contains("prefers-color-scheme:dark"));
    for words in [
        "int8 operations per byte of weights",
        "Gop/s",
        "memory roof: 35.2 GB/s",
        "int8 roof: 1775 Gop/s",
        "prefill 512",
    ] {
        assert!(drawn.contains(words), "{words}");
    }
}
