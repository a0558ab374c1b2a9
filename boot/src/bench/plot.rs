//! The figures as a picture: each ratio as a bar, its aim as a mark (SVG 1.1, nothing but boxes and
//! text).

use std::fmt::Write;

use super::figures::Measured;

const ROW: usize = 22;
const NAMES: usize = 170;
const WIDTH: usize = 480;
const VALUES: usize = 60;
/// The bar's end on the right: Xen is at 1.
const MOST: f64 = 1.2;

const MET: &str = "#3b7d4f";
const MISSED: &str = "#b5483a";
const WITHOUT_AIM: &str = "#7a7a7a";

/// Of those that were measured on both.
pub(super) fn draw(measured: &[Measured]) -> String {
    let rows: Vec<(&Measured, f64)> = measured
        .iter()
        .filter_map(|one| Some((one, one.ratio?)))
        .collect();
    let height = (rows.len() + 2) * ROW;
    let width = NAMES + WIDTH + VALUES;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut out,
        4,
        15,
        "Oxen over Xen 4.17 (less is better; the mark is the aim)",
    );
    for (index, (one, ratio)) in rows.iter().enumerate() {
        row(&mut out, (index + 1) * ROW, one, *ratio);
    }
    let (xen, bottom) = (NAMES + scaled(1.0), (rows.len() + 1) * ROW);
    let _ = writeln!(
        out,
        "<path d=\"M{xen} {ROW}V{bottom}\" stroke=\"#000000\" stroke-dasharray=\"3 3\"/>"
    );
    text(&mut out, xen - 10, bottom + 15, "Xen");
    out + "</svg>\n"
}

fn row(out: &mut String, top: usize, one: &Measured, ratio: f64) {
    let colour = match one.met {
        Some(true) => MET,
        Some(false) => MISSED,
        None => WITHOUT_AIM,
    };
    text(out, 4, top + 15, &one.name);
    let _ = writeln!(
        out,
        "<rect x=\"{NAMES}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{colour}\"/>",
        top + 3,
        scaled(ratio),
        ROW - 6
    );
    if let Some(aim) = one.aim {
        let at = NAMES + scaled(aim);
        let _ = writeln!(
            out,
            "<path d=\"M{at} {top}v{ROW}\" stroke=\"#000000\" stroke-width=\"2\"/>"
        );
    }
    text(out, NAMES + WIDTH + 6, top + 15, &format!("{ratio:.2}"));
}

fn text(out: &mut String, x: usize, y: usize, words: &str) {
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\">{words}</text>");
}

/// Pixels.
fn scaled(ratio: f64) -> usize {
    (ratio.clamp(0.0, MOST) / MOST * WIDTH as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{MICRO, Samples};

    #[test]
    fn each_ratio_has_its_bar() {
        let of = |oxen, xen: Option<f64>| {
            Measured::new(&MICRO[0], Some(Samples::from(oxen)), xen.map(Samples::from))
        };
        let drawn = draw(&[of(1.0, Some(4.0)), of(3.0, Some(4.0)), of(1.0, None)]);
        assert_eq!(drawn.matches(MET).count(), 1);
        assert_eq!(drawn.matches(MISSED).count(), 1);
        assert!(drawn.contains(">0.25<") && drawn.contains(">0.75<"));
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"));
    }
}
