"""What an operator sees: metrics for Prometheus, spans for OpenTelemetry."""
