//! The `nanorelay` program.

/// Messages come and go by thousands on many threads, in SQLite's C code as well: this allocator takes a tenth of the
/// processor time for them and keeps less memory than the system's. Programs that embed the engine choose their own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    nanorelay::cli::main()
}
