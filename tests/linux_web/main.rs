//! The bundled programs against servers that nobody here wrote. Needs Linux and root; says so where it is skipped.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod web;

#[cfg(target_os = "linux")]
fn main() {
    web::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("skipped: the programs against real servers need network namespaces of Linux");
}
