//! What a step costs by its rows and depth: a measured curve, and what it was before anything was measured.

use base::limits::STEP_ROWS_MAX;

/// Rows where the curve has a point; linear between them.
const ROWS: [usize; 16] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, STEP_ROWS_MAX];
/// qwen2.5-coder-0.5b Q4_K_M on two cores at depth 512, in ms: (rows, ms). Only ratios matter, the first step sets the scale.
const DEFAULT_MS: [(usize, f32); 6] = [(1, 10.0), (4, 11.3), (16, 25.0), (64, 70.5), (128, 135.0), (256, 250.0)];
/// Depth of the defaults.
const DEPTH: f32 = 512.0;
/// Attention: a step takes this much longer for each position of depth.
const DEPTH_SLOPE: f32 = 1e-5;
/// Share of a new measurement.
const NEW: f32 = 0.15;
/// One measurement moves the curve by no more than this factor (in logarithm), however far out it is: other programs run too.
const OUTLIER: f32 = 0.4;

/// Nanoseconds of a step, learned while running.
#[derive(Clone, Debug)]
pub struct Costs {
    /// Nanoseconds at `ROWS`, at depth `DEPTH`; never falling.
    ns: [f32; ROWS.len()],
    /// Measurements near each point, up to 255.
    seen: [u8; ROWS.len()],
}

impl Default for Costs {
    fn default() -> Self {
        Self::new()
    }
}

impl Costs {
    /// The default curve.
    pub fn new() -> Self {
        let ns = ROWS.map(|rows| {
            let i = DEFAULT_MS.iter().rposition(|(r, _)| *r <= rows).unwrap_or(0).min(DEFAULT_MS.len() - 2);
            let ((r0, t0), (r1, t1)) = (DEFAULT_MS[i], DEFAULT_MS[i + 1]);
            1e6 * (t0 + (t1 - t0) * (rows - r0) as f32 / (r1 - r0) as f32)
        });
        Self { ns, seen: [0; ROWS.len()] }
    }

    /// Nanoseconds of a step with `rows` rows whose sequences are about `depth` long.
    pub fn ns(&self, rows: usize, depth: usize) -> f32 {
        self.at(rows.max(1)) * depth_factor(depth)
    }

    /// What a draft row cost in a step of `base_rows` + `drafted`, in units of what each row of the step costs without drafts.
    pub fn price(&self, base_rows: usize, drafted: usize, depth: usize) -> f32 {
        let (base, drafted) = (base_rows.max(1), drafted.max(1));
        let plain = self.ns(base, depth);
        (self.ns(base + drafted, depth) - plain) / drafted as f32 * base as f32 / plain.max(1.0)
    }

    /// A step of `rows` rows at `depth` took `ns`.
    pub fn observe(&mut self, rows: usize, depth: usize, ns: u64) {
        let rows = rows.max(1);
        let measured = ns.max(1) as f32 / depth_factor(depth);
        let (i, along) = place(rows);
        let off = (measured / self.at(rows)).ln();
        let is_first = self.seen.iter().all(|n| *n == 0);
        // The first measurement brings the machine's scale, later ones change it slowly.
        let step = if is_first { off } else { off.clamp(-OUTLIER, OUTLIER) };
        let weight = |j: usize| {
            if j == i {
                1.0 - along
            } else if j == i + 1 {
                along
            } else {
                0.0
            }
        };
        for j in 0..ROWS.len() {
            // Points without a measurement of their own follow their neighbours'.
            let share = if is_first {
                1.0
            } else if self.seen[j] == 0 {
                NEW
            } else {
                NEW.max(1.0 / (1.0 + f32::from(self.seen[j]))) * weight(j)
            };
            self.ns[j] *= (step * share).exp();
        }
        for j in 0..ROWS.len() {
            self.seen[j] = self.seen[j].saturating_add(u8::from(weight(j) >= 0.5));
        }
        self.keep_monotone(if along < 0.5 { i } else { i + 1 });
    }

    /// The point that was measured is right; others give way to it.
    fn keep_monotone(&mut self, measured: usize) {
        for j in measured + 1..ROWS.len() {
            self.ns[j] = self.ns[j].max(self.ns[j - 1]);
        }
        for j in (0..measured).rev() {
            self.ns[j] = self.ns[j].min(self.ns[j + 1]);
        }
    }

    fn at(&self, rows: usize) -> f32 {
        let (i, along) = place(rows);
        self.ns[i] + (self.ns[i + 1] - self.ns[i]) * along
    }
}

fn depth_factor(depth: usize) -> f32 {
    1.0 + DEPTH_SLOPE * (depth as f32 - DEPTH)
}

/// Between which points `rows` lies (the lower one), and how far along; above 1 beyond the last point.
fn place(rows: usize) -> (usize, f32) {
    let i = ROWS.iter().rposition(|r| *r <= rows).unwrap_or(0).min(ROWS.len() - 2);
    (i, (rows - ROWS[i]) as f32 / (ROWS[i + 1] - ROWS[i]) as f32)
}
