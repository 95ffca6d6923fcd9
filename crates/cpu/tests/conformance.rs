//! Every instruction set this machine has gives the reference's bits, at several thread counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Isa, Portable};
use ops::{Numeric, conformance};

fn each(check: impl Fn(&mut Cpu, &mut Portable) -> Result<(), String>) {
    for isa in Isa::ALL {
        for threads in [1, 2, 3] {
            let Some(mut cpu) = Cpu::new(Some(isa), threads) else {
                println!("left out: this machine has no {isa:?}");
                continue;
            };
            let mut reference = Portable::new(Numeric::Quantised, 2);
            if let Err(e) = check(&mut cpu, &mut reference) {
                panic!("{isa:?}, {threads} threads: {e}");
            }
        }
    }
}

#[test]
fn projections_have_the_reference_bits() {
    each(conformance::check_projections);
}

#[test]
fn the_best_of_a_projection_is_the_argmax_of_what_it_would_have_stored() {
    each(conformance::check_best);
}

#[test]
fn attention_has_the_reference_bits() {
    each(conformance::check_attention);
}

#[test]
fn a_copied_page_answers_like_its_original() {
    each(|cpu, reference| {
        conformance::check_page_copy(cpu)?;
        conformance::check_page_copy(reference)
    });
}
