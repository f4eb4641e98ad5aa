"""Floor 6: pictures and videos from any generator, each app a function and a command line."""
