//! The `etcbench` binary: passes the arguments to the library and returns its exit code.

fn main() -> std::process::ExitCode {
    etcbench::cli::main()
}
