//! TCP over every kind of path, under virtual time: never a stall, never a wrong byte, and as fast as the path where nothing is lost.
//!
//! Its parts. `matrix`: a pairwise covering array over loss, bursts, reordering, duplication, lost acknowledgements, delay, rate, queue, MTU and
//! workload, with 20 seeds for each row. `goodput`: paths without loss, where the rate has to be reached. `start`: how soon the path is full,
//! and what slow start loses. `fairness`: two flows through one bottleneck.
//! The whole products are behind `--ignored`, cut into parts
//! that can be run by name (`-- --ignored product_07`); a cell that failed is run alone by its seed (`HOPLINE_CELLS=22001603`, `-- cell_`). What is not asserted as a
//! figure is kept in `table.txt`; `HOPLINE_TABLE=write` writes it anew.

#[path = "../common/trace.rs"]
mod trace;

mod covering;
mod exchange;
mod fairness;
mod goodput;
mod latency;
mod matrix;
mod path;
mod start;
mod table;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let parts = [covering::trials, goodput::trials, matrix::trials, latency::trials, fairness::trials, start::trials];
    let trials: Vec<Trial> = parts.iter().flat_map(|trials| trials()).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    table::write_if_wanted();
    conclusion.exit();
}
