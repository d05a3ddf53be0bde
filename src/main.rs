//! The door: arguments, settings, command, exit code.

fn main() {}
