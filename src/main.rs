//! The door: arguments, command, exit code.

fn main() -> std::process::ExitCode {
    blotter::cli::main(std::env::args_os()).into()
}
