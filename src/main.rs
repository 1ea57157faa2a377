//! The `nanorelay` program.

fn main() -> std::process::ExitCode {
    nanorelay::cli::main()
}
