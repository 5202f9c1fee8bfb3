"""What several front ends share through Valkey or Redis. The rest of the service sees `SharedState`, or nothing at all."""
