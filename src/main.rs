//! The `etcbench` binary: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    etcbench::cli::main()
}
