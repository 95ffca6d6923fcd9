//! Every instruction set this machine has gives the reference's bits, at several thread counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Isa, Portable};
use ops::{Numeric, conformance};

/// Every instruction set of this machine at 1, 2 and 3 threads.
fn backends() -> Vec<Cpu> {
    let each = |isa: Isa| {
        if !isa.is_available() {
            println!("left out: this machine has no {isa:?}");
        }
        [1, 2, 3].into_iter().filter_map(move |threads| Cpu::new(Some(isa), threads))
    };
    Isa::ALL.into_iter().flat_map(each).collect()
}

fn reference() -> Portable {
    Portable::new(Numeric::Quantised, 2)
}

#[test]
fn projections_have_the_reference_bits() {
    conformance::check_projections(&mut backends(), &mut reference()).unwrap();
}

#[test]
fn the_best_of_a_projection_is_the_argmax_of_what_it_would_have_stored() {
    conformance::check_best(&mut backends(), &mut reference()).unwrap();
}

#[test]
fn attention_has_the_reference_bits() {
    conformance::check_attention(&mut backends(), &mut reference()).unwrap();
}

#[test]
fn a_copied_page_answers_like_its_original() {
    backends().iter_mut().try_for_each(conformance::check_page_copy).unwrap();
    conformance::check_page_copy(&mut reference()).unwrap();
}
