//! Every instruction set this machine has gives the reference's bits, at several thread counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use cpu::{Cpu, Isa, Portable};
use ops::{KvType, Numeric, conformance};

/// Every instruction set of this machine: the fastest at 1, 2 and 3 threads, the others at 2. How work is split does not depend on
/// the set. Where `VONK_EMULATED` is set each instruction takes many, so there it is 2 for all.
fn backends() -> Vec<Cpu> {
    let best = cpu::dispatch::best().filter(|_| std::env::var_os("VONK_EMULATED").is_none());
    let each = |isa: Isa| {
        if !isa.is_available() {
            println!("left out: this machine has no {isa:?}");
        }
        let threads = if best == Some(isa) { 1..=3 } else { 2..=2 };
        threads.filter_map(move |threads| Cpu::new(Some(isa), threads))
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
    conformance::check_qkv(&mut backends(), &mut reference()).unwrap();
}

#[test]
fn numbers_at_the_ends_of_their_range_have_the_reference_bits() {
    conformance::check_edges(&mut backends(), &mut reference()).unwrap();
    let eight = backends().into_iter().map(|b| b.with_kv(KvType::Q8));
    conformance::check_edges(&mut eight.collect::<Vec<_>>(), &mut reference().with_kv(KvType::Q8)).unwrap();
}

#[test]
fn attention_over_eight_bits_has_the_reference_bits() {
    // How work is split does not depend on how keys are kept: one thread count is enough.
    let cpus = Isa::ALL.into_iter().filter_map(|isa| Some(Cpu::new(Some(isa), 2)?.with_kv(KvType::Q8)));
    let mut eight: Vec<Cpu> = cpus.collect();
    conformance::check_attention(&mut eight, &mut reference().with_kv(KvType::Q8)).unwrap();
    conformance::check_qkv(&mut eight, &mut reference().with_kv(KvType::Q8)).unwrap();
}

#[test]
fn a_copied_page_answers_like_its_original() {
    for kept in [KvType::F16, KvType::Q8] {
        backends().into_iter().try_for_each(|b| conformance::check_page_copy(&mut b.with_kv(kept))).unwrap();
        conformance::check_page_copy(&mut reference().with_kv(kept)).unwrap();
    }
}

#[test]
fn a_page_read_as_bytes_and_written_elsewhere_answers_like_its_original() {
    for kept in [KvType::F16, KvType::Q8] {
        let cpus = || Isa::ALL.into_iter().filter_map(|isa| Some(Cpu::new(Some(isa), 2)?.with_kv(kept)));
        for mut from in cpus() {
            // Also from one instruction set to another: their layout is one, and says so.
            for mut to in cpus() {
                conformance::check_page_bytes(&mut from, &mut to).unwrap();
            }
        }
        for numeric in [Numeric::Quantised, Numeric::Exact] {
            let portable = |threads| Portable::new(numeric, threads).with_kv(kept);
            conformance::check_page_bytes(&mut portable(1), &mut portable(2)).unwrap();
        }
    }
}

#[test]
fn pages_of_other_types_and_sizes_have_other_layouts() {
    use ops::{Backend, KvShape};
    fn tag<B: Backend>(mut b: B, n_layers: usize, d_head: usize) -> String {
        let kv = b.new_kv(KvShape { n_layers, n_pages: 2, n_kv_heads: 2, d_head }).unwrap();
        b.kv_layout(&kv)
    }
    let mut tags = Vec::new();
    for (n_layers, d_head) in [(2, 32), (3, 32), (2, 24)] {
        tags.push(tag(Portable::new(Numeric::Quantised, 1), n_layers, d_head));
        tags.push(tag(Portable::new(Numeric::Exact, 1), n_layers, d_head));
        tags.push(tag(Portable::new(Numeric::Quantised, 1).with_kv(KvType::Q8), n_layers, d_head));
        for kept in [KvType::F16, KvType::Q8] {
            let cpus = Isa::ALL.into_iter().filter_map(|isa| Some(Cpu::new(Some(isa), 1)?.with_kv(kept)));
            let simd: Vec<String> = cpus.map(|c| tag(c, n_layers, d_head)).collect();
            assert!(simd.windows(2).all(|w| w[0] == w[1]), "{simd:?}");
            tags.extend(simd.into_iter().next());
        }
    }
    let n = tags.len();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), n);
}
