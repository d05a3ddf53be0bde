//! The door: arguments, command, exit code.

/// librdkafka allocates each record on one thread and frees it on another, which costs the system's
/// allocator a lock; by `override` its C code uses this one too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    blotter::cli::main(std::env::args_os()).into()
}
